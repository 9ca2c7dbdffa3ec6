"""Plain text files as documents: what a model's loss is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from refusalctl.data import tables
from refusalctl.data.file_bytes import decode, read_bytes
from refusalctl.errors import DataError

COLUMN = "text"
_TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


class Documents(NamedTuple):
    """Texts of one file by id, in the file's order. `digest`: of ids and texts."""

    name: str
    texts: Mapping[str, str]
    digest: str


def read_documents(path: Path) -> Documents:
    """A file's texts: column `text` of a table (JSON lines, CSV, Parquet), else paragraphs, parted by empty lines.

    Ids are numbers, of rows or paragraphs. Raises `DataError` for a file without a text, or a row without one.
    """
    found = _rows(path) if _ending(path) in _TABLES else _paragraphs(path)
    if not found:
        raise DataError(
            f"{path.name} holds no text", hint="paragraphs parted by empty lines, or JSON lines with 'text'"
        )
    content = hashlib.sha256()
    for identifier, text in found.items():
        content.update(f"{identifier}\0{len(text)}\0{text}\0".encode())
    return Documents(path.name, found, content.hexdigest())


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _rows(path: Path) -> dict[str, str]:
    table = tables.read_table(path, lambda names: COLUMN in names)
    found: dict[str, str] = {}
    for number, row in table.rows:
        text = row.get(COLUMN)
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{table.name} row {number}: no text in the column {COLUMN!r}")
        found[str(number)] = text
    return found


def _paragraphs(path: Path) -> dict[str, str]:
    lines = decode(read_bytes(path)).splitlines()
    paragraphs = "\n".join(line.rstrip() for line in lines).split("\n\n")
    return {str(i): text.strip() for i, text in enumerate((p for p in paragraphs if p.strip()), start=1)}
