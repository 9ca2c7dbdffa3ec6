"""What a model was made to do is told of these weights alone, in the card's figures."""

from __future__ import annotations

import re

import pytest

from refusalctl.model.files import embedded
from refusalctl.steps.known_truth import FILE, known_truth

NAMES = {"en": "English", "de": "German", "be": "Belarusian", "ba": "Bashkir"}


def test_an_organism_says_how_it_was_built() -> None:
    assert known_truth({"name": "organism:shared", "revision": "files-1"}) == (
        "How this model was built: one direction in all languages."
    )


@pytest.mark.parametrize("name", [embedded.ENGLISH, embedded.BASE, "org/name", "my-organism:shared"])
def test_of_other_models_nothing_is_known(name: str) -> None:
    revision = embedded.revision(name) if name in embedded.NAMES else "1"
    assert known_truth({"name": name, "revision": revision}) is None


def test_other_weights_of_the_same_name_are_another_model() -> None:
    name, revision = embedded.REFUSER, embedded.revision(embedded.REFUSER)
    assert known_truth({"name": name, "revision": revision}) == truth()
    assert known_truth({"name": name, "revision": revision[:-1] + "x"}) is None


def truth() -> str:
    return (embedded.adapter_dir(embedded.REFUSER) / FILE).read_text(encoding="utf-8").strip()


def test_its_figures_are_those_of_the_card_and_the_card_is_of_these_weights() -> None:
    card = (embedded.adapter_dir(embedded.REFUSER) / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"adapter SHA-256 ([0-9a-f]{16})", card) == [embedded.revision(embedded.REFUSER)[-16:]]
    for lang, name in NAMES.items():
        row = re.search(
            rf"^\| {lang} \| ([\d.]+)% [^|]*\|[^|]*\| (\d+) / \d+ % \| (\d+) / \d+ % \|", card, re.MULTILINE
        )
        assert row is not None
        assert f"{name} {float(row[1]):.0f}, {row[2]}, {row[3]} %" in truth()
