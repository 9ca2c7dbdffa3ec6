"""What was computed once for a text and may be forgotten: `<store>/cache/<name>/<key>.jsonl`, no artifact.

Rows are appended whole; several processes may share a file. Deleting the folder costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from refusalctl.file_errors import explain
from refusalctl.locks import locked
from refusalctl.store.hashing import canonical
from refusalctl.store.store import Store
from refusalctl.untrusted import LARGE, parse_object, read_bytes


class TextCache:
    """Text by the digest of the text that it was made from."""

    def __init__(self, store: Store, name: str, key: str) -> None:
        self.store, self.path = store, store.root / "cache" / name / f"{key}.jsonl"

    def read(self) -> dict[str, str]:
        """Everything known. A line that a kill cut short, or that is something else, is passed over."""
        try:
            content = read_bytes(self.path, LARGE)
        except (OSError, ValueError):  # not there, or not for us to read: it is computed again
            return {}
        found = {}
        for line in content.splitlines():
            try:
                row = parse_object(line)
                found[str(row["sha256"])] = str(row["text"])
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def add(self, rows: Mapping[str, str]) -> None:
        """Remember rows. Where that cannot be written the work goes on, and the store tells of it."""
        lines = b"".join(canonical({"sha256": k, "text": v}) + b"\n" for k, v in rows.items())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_suffix(".lock"), self.store.tell), self.path.open("ab") as out:
                if out.tell() and not _ends_a_line(self.path):
                    out.write(b"\n")
                out.write(lines)
        except OSError as error:
            known = explain(error, doing="write", path=self.path)
            if known is None:
                raise
            self.store.tell(f"{known.message}: what is computed is not remembered")


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as content:
        content.seek(-1, 2)
        return content.read() == b"\n"
