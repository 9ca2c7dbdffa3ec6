"""What `artifacts ls` shows, fast on large stores: manifests that were read before are remembered.

The memory is `<store>/cache/listing.json` and no artifact: deleting it costs time and nothing else. A line counts as
long as its manifest has the time and size that it had when it was read and found whole.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from refusalctl.errors import StoreError
from refusalctl.store.artifact import LAST, MANIFEST
from refusalctl.store.drafts import replace_whole
from refusalctl.store.hashing import canonical, digest
from refusalctl.store.references import revision
from refusalctl.store.rooms import require_own
from refusalctl.store.store import KINDS, Store, is_id
from refusalctl.untrusted import LARGE, read_bytes

VERSION = 3


class ListingLine(NamedTuple):
    """One artifact: what it is about, the bytes of its payload, when it was written (seconds since the epoch, as it
    says itself), and the revision of its model."""

    kind: str
    id: str
    about: dict[str, Any]
    bytes: int
    written: float
    revision: str


class _Memory(msgspec.Struct):
    """The file: of every manifest its time and size, and then what is shown."""

    version: int
    lines: dict[str, tuple[int, int, int, dict[str, Any], Annotated[float, msgspec.Meta(ge=0, le=LAST)], str]]


def listing(store: Store, kind: str | None = None) -> list[ListingLine]:
    """Every artifact, or one kind's, oldest first. Manifests that are not whole are told of and passed over."""
    file = store.root / "cache" / "listing.json"
    known = read(file) or {}
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
                try:
                    artifact = store.open(each, identifier)
                except StoreError as error:
                    store.tell(f"{error.message}: it is passed over; see `refusalctl artifacts verify`")
                    continue
                before = [*seen, artifact.size, artifact.about, store.written(artifact), revision(artifact)]
            found[key] = before
    if kind is None and found != known:
        _write(store.root, file, found)
    lines = []
    for key, (_mtime, _size, size, about, written, of_model) in found.items():
        of_kind, identifier = key.split("/")
        lines.append(ListingLine(of_kind, identifier, about, size, written, of_model))
    return sorted(lines, key=lambda line: (line.written, line.id))


def _names(home: str) -> list[str]:
    try:
        return [name for name in os.listdir(home) if is_id(name)]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def read(file: Path) -> dict[str, list[Any]] | None:
    """What is remembered; None where the file is missing, damaged or of another version."""
    try:
        content = read_bytes(file, LARGE)
        value = msgspec.json.decode(content, type=_Memory)
        lines = {key: list(line) for key, line in value.lines.items()}
        whole = value.version == VERSION and content == _content(lines)
    except (OSError, ValueError, RecursionError):
        return None
    return lines if whole else None


def _content(lines: dict[str, list[Any]]) -> bytes:
    return canonical({"version": VERSION, "lines": lines, "digest": digest(lines)})


def _write(root: Path, file: Path, lines: dict[str, list[Any]]) -> None:
    """Replace the file whole. A store that cannot be written to is listed all the same."""
    with suppress(OSError, StoreError):
        require_own(root)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(root, file, _content(lines))
