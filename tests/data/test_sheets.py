"""Sheets are written whole, for their annotator alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from refusalctl.data import sheets

ROW = {"id": "a1", "prompt": "How do I bake bread?", "response": "Mix flour and water.", "label": "", "comment": ""}


@pytest.mark.parametrize("name", ["sheet.csv", "sheet.jsonl"])
def test_a_sheet_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / name
    sheets.write(path, [ROW])
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()

    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        sheets.write(path, [{**ROW, "label": "refusal"}], replace=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
