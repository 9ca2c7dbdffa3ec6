"""Which languages share a draw of prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.data import sets
from refusalctl.data.jsonl import write_jsonl
from refusalctl.records.rows import Prompt


@pytest.fixture
def three_languages(home: Path) -> None:
    """`aa` has two samples, `bb` the first, `cc` the second, `dd` one of its own."""
    ids = {"aa": range(20), "bb": range(11), "cc": range(9, 20), "dd": range(50, 60)}
    for lang, numbers in ids.items():
        rows = [Prompt(f"p{i}", lang, "harmless", "test", f"text {i}").to_json() for i in numbers]
        write_jsonl(sets.own_dir() / "mine" / f"{lang}.jsonl", rows)


@pytest.mark.usefixtures("three_languages")
@pytest.mark.parametrize(
    ("lang", "group"), [("aa", ["aa", "bb"]), ("bb", ["bb", "aa"]), ("cc", ["cc", "aa"]), ("dd", ["dd"])]
)
def test_samples_that_hardly_overlap_are_not_forced_together(lang: str, group: list[str]) -> None:
    langs = ["aa", "bb", "cc", "dd"]
    assert sets.parallel("mine", lang, langs, "harmless", "test") == group
    assert sets.draw("mine", group, "harmless", "test", None, 0)


def test_the_sample_set_is_parallel_throughout() -> None:
    langs = sets.set_languages("sample")
    assert set(sets.parallel("sample", "ba", langs, "harmless", "train")) == set(langs)
