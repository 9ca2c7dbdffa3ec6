"""Rows outlive an interruption, and those of two processes never mix."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.errors import StoreError
from refusalctl.steps.finished_rows import FinishedRows


def test_rows_are_there_after_any_end(tmp_path: Path) -> None:
    FinishedRows(tmp_path, "rows.jsonl").add({"i": 1}, {"i": 2})
    again = FinishedRows(tmp_path, "rows.jsonl")
    again.add({"i": 3})
    assert (again.resumed, [row["i"] for row in FinishedRows(tmp_path, "rows.jsonl")]) == (2, [1, 2, 3])


def test_one_who_was_taken_for_dead_writes_no_rows_between_those_of_its_successor(tmp_path: Path) -> None:
    first = FinishedRows(tmp_path, "rows.jsonl")
    first.add({"i": 1})
    successor = FinishedRows(tmp_path, "rows.jsonl")
    successor.add({"i": 2})
    with pytest.raises(StoreError, match="another process goes on"):
        first.add({"i": 2})
    successor.add({"i": 3})
    assert [row["i"] for row in FinishedRows(tmp_path, "rows.jsonl")] == [1, 2, 3]
