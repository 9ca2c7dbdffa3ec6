"""What `artifacts ls` shows, fast on large stores: manifests that were read before are remembered.

The memory is `<store>/cache/listing.json` and no artifact: deleting it costs time and nothing else. A line counts as
long as its manifest has the time and size that it had when it was read and found whole.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.store.hashing import canonical
from refusalctl.store.store import KINDS, MANIFEST, Store

VERSION = 1


class ListingLine(NamedTuple):
    """One artifact: what it is about, the bytes of its payload, and when it was written (seconds since the epoch)."""

    kind: str
    id: str
    about: dict[str, Any]
    bytes: int
    written: float


def listing(store: Store, kind: str | None = None) -> list[ListingLine]:
    """Every artifact, or one kind's, oldest first. Raises `Corrupt` for a manifest that is not whole."""
    file = store.root / "cache" / "listing.json"
    known = _read(file)
    found: dict[str, list[Any]] = {}
    for each in KINDS if kind is None else (kind,):
        home = str(store.root / each)
        for identifier in _names(home):
            try:
                facts = os.stat(f"{home}/{identifier}/{MANIFEST}")  # noqa: PTH116 - a thousand path objects take 20 ms
            except (FileNotFoundError, NotADirectoryError):
                continue
            key, seen = f"{each}/{identifier}", [facts.st_mtime_ns, facts.st_size]
            before = known.get(key)
            if before is None or before[:2] != seen:
                artifact = store.open(each, identifier)
                before = [*seen, artifact.size, artifact.about]
            found[key] = before
    if kind is None and found != known:
        _write(file, found)
    lines = []
    for key, (written, _size, size, about) in found.items():
        of_kind, identifier = key.split("/")
        lines.append(ListingLine(of_kind, identifier, about, size, written / 1e9))
    return sorted(lines, key=lambda line: (line.written, line.id))


def _names(home: str) -> list[str]:
    try:
        return os.listdir(home)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(file: Path) -> dict[str, list[Any]]:
    """What is remembered; nothing where the file is missing, damaged or of another version."""
    try:
        value = json.loads(file.read_bytes())
        lines: dict[str, list[Any]] = value["lines"] if value["version"] == VERSION else {}
        whole = all(len(line) == 4 for line in lines.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return lines if whole else {}


def _write(file: Path, lines: dict[str, list[Any]]) -> None:
    """Replace the file whole. A store that cannot be written to is listed all the same."""
    draft = file.with_name(f".listing.{uuid.uuid4().hex[:12]}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(canonical({"version": VERSION, "lines": lines}))
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
