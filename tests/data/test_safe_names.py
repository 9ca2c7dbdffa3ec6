"""A prompt where a name belongs is not shown."""

from __future__ import annotations

import pytest

from refusalctl.data.safe_names import shown


@pytest.mark.parametrize("name", ["goal", "forbidden_prompt", "Unnamed: 0", "frage (de)", 7])
def test_a_name_is_shown(name: object) -> None:
    assert shown(name) == repr(str(name))


@pytest.mark.parametrize("text", ["How is bread baked at home", "Why?", "为什么？", "a" * 41, "لماذا؟"])
def test_of_a_text_only_its_length_is_shown(text: str) -> None:
    assert shown(text) == f"(a text of {len(text)} characters)"
