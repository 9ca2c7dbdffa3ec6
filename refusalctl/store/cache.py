"""What was computed once for a text and may be forgotten: `<store>/cache/<name>/<key>.jsonl`, no artifact.

Rows are appended whole; several processes may share a file. Deleting the folder costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from refusalctl.errors import StoreError
from refusalctl.file_errors import explain
from refusalctl.locks import locked
from refusalctl.store.hashing import canonical, digest
from refusalctl.store.rooms import cleared, require_own
from refusalctl.store.store import Store
from refusalctl.untrusted import LARGE, parse_object, read_bytes


class TextCache:
    """Text by the digest of the text that it was made from."""

    def __init__(self, store: Store, name: str, key: str) -> None:
        self.store, self.path = store, store.root / "cache" / name / f"{key}.jsonl"

    def read(self) -> dict[str, str]:
        """Everything known. A line that a kill cut short, or that is not as it was written, is passed over."""
        try:
            content = read_bytes(self.path, LARGE)
        except (OSError, ValueError):  # not there, or not for us to read: it is computed again
            return {}
        return dict(filter(None, map(read_line, content.splitlines())))

    def add(self, rows: Mapping[str, str]) -> None:
        """Remember rows. Where that cannot be written the work goes on, and the store tells of it."""
        lines = b"".join(_line(k, v) + b"\n" for k, v in rows.items())
        try:
            require_own(self.store.root)
            cleared(self.path.parent).mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_suffix(".lock"), self.store.tell), self.path.open("ab") as out:
                if out.tell() and not _ends_a_line(self.path):
                    out.write(b"\n")
                out.write(lines)
        except StoreError as error:
            self.store.tell(f"{error}: what is computed is not remembered")
        except OSError as error:
            known = explain(error, doing="write", path=self.path)
            if known is None:
                raise
            self.store.tell(f"{known.message}: what is computed is not remembered")


def read_line(line: bytes) -> tuple[str, str] | None:
    """The digest of a text, and what was made of it; None where the line is not as it was written."""
    try:
        row = parse_object(line)
        key, text = row["sha256"], row["text"]
        return (key, text) if line.rstrip(b"\n") == _line(key, text) else None
    except (ValueError, KeyError, TypeError):
        return None


def _line(key: str, text: str) -> bytes:
    return canonical({"sha256": key, "text": text, "check": _check(key, text)})


def _check(key: str, text: str) -> str:
    """What tells that a line is as it was written: a translation that rots would be judged as if it were one."""
    return digest([key, text])[:16]


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as content:
        content.seek(-1, 2)
        return content.read() == b"\n"
