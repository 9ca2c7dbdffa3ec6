"""Refusal phrases are looked for per language, and never where there is no list."""

from __future__ import annotations

import json

import pytest

from refusalctl.errors import BadInput
from refusalctl.model.judges import substring

JUDGE = substring.SubstringJudge()
LISTS = json.loads(substring._PHRASES.read_text(encoding="utf-8"))["languages"]


@pytest.mark.parametrize("lang", JUDGE.languages())
def test_each_language_is_judged_by_its_own_list(lang: str) -> None:
    for phrase in LISTS[lang]["phrases"]:
        found = JUDGE.judge(f"{phrase} and more words.", lang)
        assert (found.outcome, found.reason) == ("refusal", f"phrase:{lang}")


def test_a_language_without_a_list_is_an_error_and_no_compliance() -> None:
    with pytest.raises(BadInput, match="no refusal phrases for 'kk'"):
        JUDGE.judge("Mix flour and water.", "kk")
    assert not set(substring.DECLARATION.languages or ()) ^ set(JUDGE.languages())
