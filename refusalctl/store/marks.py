"""What a recipe gave: `recipes/<key>/<id>`, a copy of the manifest that proves itself, for its digest is its name.

A mark is written before its artifact is moved into place, so that a kill between the two leaves a mark without an
artifact (and the draft in `tmp/`), never an artifact that its recipe does not know and that would be computed again.
The copy tells what is missing when an artifact is gone, what it was made from, and gives a lost manifest back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.disk import is_foreign, make_durable
from refusalctl.errors import Corrupt
from refusalctl.store.artifact import KINDS, MANIFEST
from refusalctl.store.drafts import replace_whole
from refusalctl.store.hashing import digest
from refusalctl.store.manifest import checked
from refusalctl.store.rooms import cleared
from refusalctl.untrusted import own_folder, parse_object, read_bytes

ROOM = "recipes"


class Mark(NamedTuple):
    """`manifest`: of the artifact that the recipe gave; None where the mark was changed, or is `newer`: its bytes are
    whole, and of a format version or kind that this version does not know."""

    key: str
    id: str
    path: Path
    manifest: dict[str, Any] | None
    newer: bool = False

    @property
    def kind(self) -> str | None:
        return None if self.manifest is None else str(self.manifest.get("kind"))


def write(root: Path, key: str, identifier: str, manifest: bytes) -> None:
    """Note that a recipe gave an artifact; a mark that is there and whole stays as it is."""
    path = root / ROOM / key / identifier
    if read(path).manifest is not None:
        return
    make_durable(cleared(path.parent))
    try:
        replace_whole(root, path, manifest)
    except FileNotFoundError:  # another process removed the empty folder just now
        make_durable(path.parent)
        replace_whole(root, path, manifest)


def read(path: Path) -> Mark:
    """One mark, which need not be there."""
    manifest, newer = None, False
    with suppress(OSError, ValueError, Corrupt):
        content = read_bytes(path)
        if hashlib.sha256(content).hexdigest() == path.name:
            value = parse_object(content)
            newer = _is_newer(value)
            manifest = None if newer else checked(value, str(value.get("kind")), "its artifact")
    return Mark(path.parent.name, path.name, path, manifest, newer)


def _is_newer(manifest: dict[str, Any]) -> bool:
    version, kind = manifest.get("version"), manifest.get("kind")
    return isinstance(version, int) and (version > 1 or (version == 1 and isinstance(kind, str) and kind not in KINDS))


def drop(root: Path, mark: Mark) -> None:
    """Take away the mark of an artifact that is not there, and its recipe's folder where it was the last.

    One of a newer version stays: where its artifact would be is not known here.

    One who writes that artifact now looks for the mark after moving it into place, and here the artifact is looked for
    after the mark is gone: one of both puts it back.
    """
    kinds = KINDS if mark.kind is None else (mark.kind,)
    if mark.newer or any((root / kind / mark.id).is_dir() for kind in kinds):
        return
    content = None
    with suppress(OSError, ValueError):
        content = read_bytes(mark.path)
    mark.path.unlink(missing_ok=True)
    with suppress(OSError):
        mark.path.parent.rmdir()
    if content is not None and mark.manifest is not None and (root / str(mark.kind) / mark.id).is_dir():
        write(root, mark.key, mark.id, content)


def of_recipe(root: Path, key: str) -> Iterator[Mark]:
    """The marks of one recipe."""
    folder = root / ROOM / key
    for name in names_in(folder) if own_folder(folder) else ():
        yield read(folder / name)


def every(root: Path) -> Iterator[Mark]:
    """Every mark of a store, also what only looks like one."""
    for key in names_in(root / ROOM):
        yield from of_recipe(root, key)


def of_draft(root: Path, folder: Path) -> list[Mark]:
    """The mark of the artifact that lies in a folder, by its manifest; none where that cannot be read."""
    try:
        content = read_bytes(folder / MANIFEST)
        key = digest(parse_object(content)["recipe"])
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [read(root / ROOM / key / hashlib.sha256(content).hexdigest())]


def looked_for(root: Path, identifier: str) -> list[Mark]:
    """The marks of an artifact whose manifest cannot tell its recipe."""
    return [read(path) for path in (root / ROOM).glob(f"*/{identifier}") if own_folder(path.parent)]


def names_in(folder: Path) -> list[str]:
    """Names in a folder, sorted, without what other programs left; none where there is no such folder."""
    try:
        return sorted(p.name for p in folder.iterdir() if not is_foreign(p.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
