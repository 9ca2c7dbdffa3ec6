"""Rows that were finished when long work was interrupted: kept in a `partial` folder or file until all are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from refusalctl.json_types import Json
from refusalctl.store import formats

Row = Mapping[str, Json]


class FinishedRows:
    """JSON lines that outlive an interruption. What an earlier run finished is there when it is opened."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / name
        self._rows: list[dict[str, Any]] = formats.read_finished_rows(self._file)
        self.resumed = len(self._rows)
        self._size = self._file.stat().st_size if self._file.is_file() else 0

    def add(self, *rows: Row) -> None:
        """Write rows down now; they are there after any kill from here on. Raises `StoreError` where another process,
        which took this one for dead, writes here too: rows of both would mix."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._size = formats.append_rows(self._file, (dict(row) for row in rows), self._size)
        self._rows += [dict(row) for row in rows]

    def discard(self) -> None:
        """Delete the file: the result is whole, or nobody will go on."""
        self._file.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
