"""What a person calls the other side: a folder, or a URL."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import given_path, is_foreign
from refusalctl.errors import BadInput
from refusalctl.file_errors import printable
from refusalctl.locks import Tell
from refusalctl.store.exchange.archive import is_archive
from refusalctl.store.exchange.remote import UrlSide, filesystem, shown
from refusalctl.store.exchange.sides import FolderSide
from refusalctl.store.rooms import ROOMS
from refusalctl.store.store import KINDS, Store
from refusalctl.store.verify import require_store

_LOCAL = ("file://", "local://")


class Address(NamedTuple):
    """The other side. `local`: what is sent there stays on this machine's disks."""

    side: FolderSide | UrlSide
    local: bool


def address(text: str, store: Store, tell: Tell, *, receives: bool) -> Address:
    """The side that a text names. `receives`: it need not be there yet.

    Raises `BadInput`; `NotFound` where nothing is to be had.
    """
    for prefix in _LOCAL:
        text = text.removeprefix(prefix)
    if "://" not in text:
        return Address(_folder(given_path(text, "the other side"), store, tell, receives), True)
    if text.startswith("hf://"):
        from refusalctl.store.exchange.hub import HubSide

        return Address(HubSide(text), False)
    fs, base = filesystem(text)
    if not base.strip("/") and not text.startswith("memory://"):
        raise BadInput(f"{shown(text)} names no place", hint="write it as s3://bucket/folder")
    return Address(UrlSide(fs, base, shown(text)), text.startswith("memory://"))


def _folder(path: Path, store: Store, tell: Tell, receives: bool) -> FolderSide:
    if is_archive(path):
        hint = "`refusalctl artifacts export` writes archives, and `refusalctl artifacts import` reads them"
        raise BadInput(f"{printable(str(path))} is called as an archive", hint=hint)
    if path.exists() and path.resolve() == store.root.resolve():
        raise BadInput(f"{printable(str(path))} is the store itself", hint="name another folder, or a URL")
    if not receives:
        require_store(Store(path))
    elif path.exists():
        _require_room(path)
    return FolderSide(Store(path, tell))


def _require_room(path: Path) -> None:
    """Raise `BadInput` for a folder of something else, which a store must not be mixed with."""
    if not path.is_dir():
        raise BadInput(f"{printable(str(path))} is a file, expected a folder", hint="name a folder")
    there = [p.name for p in path.iterdir() if not is_foreign(p.name)]
    if there and not set(there) & {*KINDS, *ROOMS}:
        raise BadInput(f"{printable(str(path))} holds something else than a store", hint="name an empty folder")
