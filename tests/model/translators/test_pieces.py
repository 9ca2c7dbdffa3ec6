"""Texts in pieces: nothing is lost, nothing is longer than it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusalctl.model.translators.pieces import pieces

TEXT = "First sentence. Second one!  Third?\n\n- a list\n- of two «items.» End"


def test_sentences_of_several_scripts() -> None:
    assert pieces(TEXT, 400, sentences=True).flat == [
        "First sentence.", "Second one!", "Third?", "- a list", "- of two «items.»", "End",
    ]  # fmt: skip
    assert pieces("これは文です。次の文。", 400, sentences=True).flat == ["これは文です。", "次の文。"]
    assert pieces("یک جمله۔ دو؟ سه", 400, sentences=True).flat == ["یک جمله۔", "دو؟", "سه"]
    assert pieces("Шесть рублей 3.50 и т. 5", 400, sentences=True).flat == ["Шесть рублей 3.50 и т.", "5"]


def test_lines_stay_lines() -> None:
    cut = pieces(TEXT, 400, sentences=True)
    assert cut.joined([piece.upper() for piece in cut.flat]) == (
        "FIRST SENTENCE. SECOND ONE! THIRD?\n\n- A LIST\n- OF TWO «ITEMS.» END"
    )


def test_services_get_whole_lines() -> None:
    assert pieces(TEXT, 400, sentences=False).flat == [
        "First sentence. Second one!  Third?",
        "- a list",
        "- of two «items.» End",
    ]


@pytest.mark.parametrize("sentences", [True, False])
@given(text=st.text(alphabet="ab .!?。\n", max_size=80), limit=st.integers(1, 12))
def test_nothing_is_lost_and_no_piece_is_too_long(sentences: bool, text: str, limit: int) -> None:
    cut = pieces(text, limit, sentences=sentences)
    assert all(0 < len(piece) <= limit for piece in cut.flat)
    assert "".join("".join(cut.flat).split()) == "".join(text.split())
