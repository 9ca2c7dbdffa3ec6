"""Folders that a store keeps beside those of artifacts, and that nothing is written or deleted through a link there.

Somebody else's store may hold links in their places. Through a `tmp/` that leads to a person's home all that lies there
would be swept as what killed processes left, through `partial/` files would be cut and written to.
"""

from __future__ import annotations

import stat
from pathlib import Path

from refusalctl.errors import StoreError
from refusalctl.file_errors import printable
from refusalctl.untrusted import own_folder

ROOMS = ("tmp", "partial", "recipes", "names", "named", "cache", "events")


def require_own(root: Path) -> None:
    """Raise `StoreError` where a link stands in the place of one of the store's own folders."""
    for name in linked_rooms(root):
        raise StoreError(
            f"{name} of the store {printable(str(root))} is a symbolic link, which may lead out of it",
            hint="remove the link; only folders of artifacts may be links",
        )


def linked_rooms(root: Path) -> list[str]:
    return [name for name in ROOMS if (root / name).is_symlink()]


def links(root: Path) -> list[Path]:
    """Links in the place of the store's own folders, and in theirs."""
    return [
        *(root / name for name in linked_rooms(root)),
        *(path for name in ROOMS for path in inside(root / name) if path.is_symlink()),
    ]


def inside(folder: Path) -> list[Path]:
    """What is in a real folder, sorted; nothing where none is there, or a link."""
    return sorted(folder.iterdir()) if own_folder(folder) else []


def cleared(folder: Path) -> Path:
    """A folder that is about to be written to: a link in its place, and links, pipes and devices in it, are removed.
    What links lead to stays."""
    if folder.is_symlink():
        folder.unlink()
    for path in inside(folder):
        kind = path.lstat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            path.unlink()
    return folder
