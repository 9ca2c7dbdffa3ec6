"""Columns: found where it is plain, asked for where it is not, never chosen by luck."""

from __future__ import annotations

import pytest

from refusalctl.data.prompt_columns import Columns, choose
from refusalctl.data.tables import Table
from refusalctl.errors import BadInput


def chosen(*names: str, lang: str | None = None, asked: tuple[str, ...] = (), ids: str | None = None) -> Columns:
    row = {name: f"words in {name}" for name in names}
    return choose(Table("x.csv", "CSV", names, [(2, row)], ()), lang, asked, ids)


def test_what_is_plain_is_found() -> None:
    assert chosen(" Goal ", "n", lang="en").texts == {"en": " Goal "}
    assert chosen("id", "en", "de", "zh_hant").texts == {"en": "en", "de": "de", "zh-Hant": "zh_hant"}
    assert chosen("id", "en", "de", lang="de").texts == {"de": "de"}
    assert chosen("en", "de", "be").anchor == "en"
    both = chosen("prompt", "lang", "category")
    assert (both.texts, both.lang, both.ignored) == ({"": "prompt"}, "lang", ("category",))
    named = chosen("frage", "frage_en", "nummer", asked=("de=frage", "zh_TW=nummer"), ids="NUMMER")
    assert (list(named.texts), named.id, named.text_en) == (["de", "zh-TW"], "nummer", "frage_en")


def test_a_column_of_numbers_is_no_language() -> None:
    rows = [(2, {"no": "1", "en": "Bread", "de": "Brot", "nr": 1})]
    found = choose(Table("x.csv", "CSV", ("no", "en", "de", "nr"), rows, ()), None)
    assert (found.texts, found.ignored) == ({"en": "en", "de": "de"}, ("no", "nr"))


@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        (("goal", "prompt"), {"lang": "en"}, "several columns could hold the prompts"),
        (("goal",), {}, "in which language are the prompts"),
        (("frage",), {"lang": "de"}, "no column is known.*--text-column 'frage'"),
        (("frage",), {"asked": ("frgae",), "lang": "de"}, "has no column 'frgae'; did you mean 'frage'"),
        (("a", "b"), {"asked": ("de=a", "de=b")}, "two columns for de"),
        (("a", "b"), {"asked": ("de=a", "b")}, "a column without its language"),
        (("a",), {"asked": ("by=a",)}, "'by' is no language code; did you mean 'be'"),
        (("a",), {"asked": ("de=a",), "lang": "en"}, "--lang says en"),
        (("goal",), {"lang": "en", "ids": "nr"}, "has no column 'nr'"),
    ],
)
def test_doubt_is_asked_about(names: tuple[str, ...], more: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        chosen(*names, **more)  # type: ignore[arg-type]


def test_a_prompt_in_the_headers_place_is_not_shown() -> None:
    text = "How is bread baked at home?"
    with pytest.raises(BadInput, match="reads like a prompt") as found:
        chosen(text, lang="en")
    assert text not in str(found.value)
