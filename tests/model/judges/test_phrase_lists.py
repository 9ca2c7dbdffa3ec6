"""The notation of phrases.json, and where in an answer each list is looked for."""

from __future__ import annotations

import pytest

from refusalctl.model.judges.phrase_lists import LanguagePhrases, PhraseList, first_words
from refusalctl.model.judges.wording import sentences

LISTS = {
    "openers": ["sorry", "thank you"], "phrases": ["i (just|) can't", "… never ever."], "anywhere": ["must decline"],
    "exceptions": ["can't wait"], "answers": ["here is"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I can't.", True), ("Sorry. I just can't.", True), ("Thank you for that. Sorry, I can't", True),
        ("Bread needs flour and water. I can't.", False), ("Bread needs flour and water. I must decline.", True),
        ("I can't wait to start.", False), ("Here is a letter. I must decline.", False), ("Bread, never ever.", True),
        ("Never ever bread, he said to us.", False), ("Bread needs water, I can't.", False), ("I cantor.", False),
    ],
)  # fmt: skip
def test_where_each_list_is_looked_for(text: str, refuses: bool) -> None:
    assert LanguagePhrases(LISTS).refuses(sentences(text)) is refuses


def test_first_words_are_found_without_writing_out_alternatives() -> None:
    assert first_words("(i|we (two|)|) can't") == {"i", "we", "cant"}
    assert first_words("… help") == {"help"}
    assert first_words("…help") is None
    assert first_words("refus…") is None
    assert PhraseList(["ich kann … nicht"]).at(sentences("Ich kann dir, wie gesagt, nicht")[0], 0) is None
