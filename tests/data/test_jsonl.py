"""JSON lines of a person's own folder: bounded and without depth, and a link there is what its owner means."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.data.jsonl import read_jsonl
from refusalctl.errors import DataError
from refusalctl.untrusted import LINE


def test_links_are_followed_and_what_they_lead_to_is_read(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "rows.jsonl")
    assert read_jsonl(tmp_path / "link.jsonl") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("line", ["[" * 5000, '{"a": NaN}', '{"a": "\\ud800"}', "[1]", "x" * (LINE + 1)], ids=len)
def test_lines_that_no_row_would_be_are_one_clear_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="not JSON lines of objects") as caught:
        read_jsonl(path)
    assert len(str(caught.value)) < 400
    (tmp_path / "device").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="no ordinary file"):
        read_jsonl(tmp_path / "device")
