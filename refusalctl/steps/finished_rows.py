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

    def add(self, *rows: Row) -> None:
        """Write rows down now; they are there after any kill from here on."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        formats.append_rows(self._file, (dict(row) for row in rows))
        self._rows += [dict(row) for row in rows]

    def discard(self) -> None:
        """Delete the file: the result is whole, or nobody will go on."""
        self._file.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
