"""Values that a type does not check: languages in one spelling, openings by language, numbers without a limit."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import pytest

from refusalctl.errors import BadInput
from refusalctl.resolve import resolve
from refusalctl.setting_values import for_language, languages, openings, read, written
from refusalctl.settings import SelectionSettings, Settings
from refusalctl.steps.selection.openings import given_for


def test_languages_are_spelled_once_and_named_once() -> None:
    assert languages("zh_hant, pt-br,ZH-Hant,rus") == ("zh-Hant", "pt-BR", "ru")
    assert languages(["EN", "en"]) == ("en",)
    assert languages(7) == 7  # left for the check of types
    with pytest.raises(BadInput, match=r"'by' is no language code; did you mean 'be' \(Belarusian\)\?"):
        languages("en,by")


def test_an_opening_for_one_language_reaches_it_however_its_code_is_spelled(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[experiment]\nrefusal_openings = ["zh_hant=No", "I cannot", "ids:40,2121"]\n')
    asked = resolve({}, file, {}).settings.selection.refusal_openings
    assert asked == ("zh-Hant=No", "I cannot", "ids:40,2121")
    assert given_for(asked, "zh-Hant") == ["No"]
    assert given_for(asked, "zh") == ["I cannot", "ids:40,2121"]
    assert given_for(["zh-Hant=ids:4"], "zh-Hant") == ["ids:4"]
    assert for_language("I = you") is None


@pytest.mark.parametrize("opening", ["by=No", "Belarusian=No"])
def test_an_opening_for_no_language_is_refused_instead_of_lost(opening: str) -> None:
    with pytest.raises(BadInput, match=r"the refusal opening .* is no language code; did you mean 'be'"):
        openings([opening])
    with pytest.raises(BadInput, match="is no language code"):
        SelectionSettings(refusal_openings=(opening,))


def test_records_hold_openings_in_one_spelling_and_with_words() -> None:
    with pytest.raises(BadInput, match="expected zh-Hant=No"):
        SelectionSettings(refusal_openings=("zh_hant=No",))
    with pytest.raises(BadInput, match="a refusal opening is empty"):
        SelectionSettings(refusal_openings=("be= ",))


def test_no_limit_survives_json() -> None:
    asked = {"selection": {"max_kl": inf, "min_induce": -inf, "refusal_openings": ("inf",)}}
    assert read(json.loads(json.dumps(written(asked), allow_nan=False)))["selection"] == {
        "max_kl": inf, "min_induce": -inf, "refusal_openings": ["inf"],
    }  # fmt: skip
    settings = Settings.of(max_kl=inf, min_induce=-inf)
    assert Settings.from_json(settings.to_json()) == settings
