"""Texts of a file: paragraphs and tables, with a digest that follows what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.data.documents import read_documents
from refusalctl.errors import DataError


def test_paragraphs_and_rows_are_documents(tmp_path: Path) -> None:
    plain, table = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_bytes("One line\r\nand another.\r\n\r\n \r\nÜber Brot.\n".encode())
    table.write_text('{"text": "One line\\nand another."}\n{"text": "Über Brot.", "more": 1}\n', encoding="utf-8")
    first, second = read_documents(plain), read_documents(table)
    assert list(first.texts.values()) == ["One line\nand another.", "Über Brot."]
    assert dict(first.texts) == dict(second.texts)
    assert first.digest == second.digest
    table.write_text('{"text": "One line\\nand another."}\n{"text": "Über Brote."}\n', encoding="utf-8")
    assert read_documents(table).digest != first.digest


def test_a_file_without_a_text_says_so(tmp_path: Path) -> None:
    empty, blank = tmp_path / "e.txt", tmp_path / "b.jsonl"
    empty.write_text("\n\n  \n")
    blank.write_text('{"text": "a"}\n{"text": 3}\n')
    with pytest.raises(DataError, match=r"e\.txt holds no text"):
        read_documents(empty)
    with pytest.raises(DataError, match="row 2: no text in the column 'text'"):
        read_documents(blank)
