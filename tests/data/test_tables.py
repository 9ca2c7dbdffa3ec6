"""Rows have the number that an editor or a spreadsheet shows; what holds nothing is counted, and doubt is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.data.prompt_columns import is_known
from refusalctl.data.tables import Table, is_blank, read_table
from refusalctl.errors import BadInput, DataError


def table(folder: Path, name: str, content: str, form: str | None = None) -> Table:
    (folder / name).write_text(content, encoding="utf-8")
    return read_table(folder / name, is_known, form=form)


def test_numbers_and_empty_rows(tmp_path: Path) -> None:
    found = table(tmp_path, "a.csv", "\ntext,n\na,1\n,,\n\nb,\n")
    assert ([n for n, _ in found.rows], found.empty) == ([3, 6], (4, 5))
    lines = table(tmp_path, "a.txt", "a\n\nb\n")
    assert ([n for n, _ in lines.rows], lines.empty) == ([1, 3], (2,))
    assert is_blank(float("nan"))
    assert not is_blank(0)


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.csv", "text\na\n", "CSV"), ("a.tsv", "text\tn\na\t1\n", "tab-separated, tabs"),
        ("a", "goal,n\na,1\n", "CSV, commas"),
        ("a.txt", "a\nb\n", "one prompt a line"), ("a.json", '{"text": "a"}\n{"text": "b"}\n', "JSON lines"),
        ("a.jsonl", '[{"text": "a"}]', "JSON"), ("a", '{"data": [{"text": "a"}]}', "JSON, below 'data'"),
    ],
)  # fmt: skip
def test_a_form_is_told_by_name_and_content(tmp_path: Path, name: str, content: str, form: str) -> None:
    assert table(tmp_path, name, content).form == form


def test_doubt_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"its first line is a header of a table; pass --format csv"):
        table(tmp_path, "a.txt", "goal,n\na,1\n")
    assert len(table(tmp_path, "a.txt", "goal,n\na,1\n", "txt").rows) == 2
    with pytest.raises(BadInput, match="there is no format 'xls'; known: csv"):
        table(tmp_path, "a.csv", "text\n", "xls")
    with pytest.raises(DataError, match=r"row 2: 3 cells, expected 2 \(text, n\)"):
        table(tmp_path, "a.csv", "text,n\na, b,1\n")
