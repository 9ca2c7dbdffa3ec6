"""Nothing but text reaches a terminal, and JSON stays what it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalctl.terminal import safe, safe_json

HOSTILE = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;aGk=\x07",
    "one byte control sequence": "\x9b31m",
    "back": "real\rfake",
    "backspace": "ab\x08\x08",
    "delete": "\x7f",
    "override": "abc\u202edcba",
    "isolate": "a\u2066b\u2069",
    "line separator": "one\u2028two",
    "tags": "a\U000e0041\U000e0042",
    "half a character": "a\ud800",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_text_is_shown_as_an_escape(name: str) -> None:
    shown = safe(HOSTILE[name])
    assert shown != HOSTILE[name]
    assert shown.isprintable()
    assert safe(shown) == shown


def test_letters_of_every_script_and_what_joins_them_stay() -> None:
    for text in (
        "Привет\tмир\n",
        "می\u200cخواهم",
        "क्\u200dष",
        "ἀλήθεια",
        "中文",
        "👩\u200d🔬",
        "a\u00a0b",
        "\u200fשלום",
    ):
        assert safe(text) == text


@settings(deadline=None)  # of a busy machine
@given(st.text(alphabet=st.characters(), max_size=40))
def test_a_json_document_keeps_its_values_and_loses_what_is_no_text(text: str) -> None:
    document = safe_json(json.dumps({"a": text}, ensure_ascii=False, indent=1))
    assert json.loads(document) == {"a": text}
    assert safe(document) == document


def test_json_that_went_through_both_says_the_same() -> None:
    for number in (*range(0x20), *range(0x7E, 0xA1), 0x202E, 0xFFF9, 0xD800, 0xE0041):
        text = f"x{chr(number)}y"
        assert json.loads(safe(safe_json(json.dumps(text)))) == text
        if number != 0xD800:
            assert json.loads(safe(safe_json(json.dumps(text, ensure_ascii=False)))) == text
