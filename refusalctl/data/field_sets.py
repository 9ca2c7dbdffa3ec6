"""Prompt sets that the field uses, by name: where they are published, how they are fetched, checked and locked.

`field_sets.json` pins each by revision, and by SHA-256 where one is known. `computed`: of the bytes that the revision's
own history holds; `reported`: as several independent projects publish it for that revision, not computed here. A file
without a digest is locked by the first download: `lock.json` keeps what arrived, and later bytes must be the same.
The files are not part of this project.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from refusalctl.data import sample
from refusalctl.disk import write_whole
from refusalctl.errors import BadInput, DataError
from refusalctl.file_errors import explained
from refusalctl.records.rows import Kind
from refusalctl.setting_words import meant

Proof = Literal["computed", "reported"]
FIRST = "first download"
LOCK = "lock.json"
UNWRITABLE = "name another folder with REFUSALCTL_DATA_DIR"
_BASE = {
    "github": "https://raw.githubusercontent.com/{home}/{revision}/{path}",
    "hub": "https://huggingface.co/datasets/{home}/resolve/{revision}/{path}",
}


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The digest of one file, and what it rests on; None of both: nothing is known before the first download."""

    sha256: str | None
    proof: Proof | None


class FieldSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One published set. `parallel`: rows of one id are translations of each other; `missing`: why there is no file."""

    title: str
    paper: str
    licence: str
    home: str
    host: Literal["github", "hub"]
    revision: str
    files: dict[str, Pin]
    kinds: tuple[Kind, ...]
    languages: tuple[str, ...]
    parallel: bool
    missing: str | None = None

    def url(self, path: str) -> str:
        return _BASE[self.host].format(home=self.home, revision=self.revision, path=path)


class Locked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was fetched of one file."""

    sha256: str
    bytes: int
    proof: str  # what its digest was compared with: computed, reported, or nothing (first download)


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`lock.json`: the revision, the files, and how many prompts each language's table has. It is written last."""

    revision: str
    files: dict[str, Locked]
    rows: dict[str, int]


@cache
def catalog() -> dict[str, FieldSet]:
    """Every set by name."""
    text = Path(__file__).with_name("field_sets.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, FieldSet])


def named(name: str) -> FieldSet:
    """Raises `BadInput` for a name that is no such set, with the nearest."""
    if name not in catalog():
        raise BadInput(
            f"there is no published prompt set {name!r}",
            hint=f"{meant(name, catalog())}known: polyrefuse, {', '.join(catalog())}",
        )
    return catalog()[name]


def folder(name: str) -> Path:
    return sample.user_home() / "field" / name


def lock_of(name: str) -> Lock | None:
    """What was fetched; None where the set has not been fetched at the pinned revision."""
    try:
        found = msgspec.json.decode((folder(name) / LOCK).read_bytes(), type=Lock)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found.revision == named(name).revision else None


def fetch(name: str, source: Path | None) -> Iterator[tuple[str, bytes, Locked]]:
    """Every file of a set, checked, from `source` (a folder that holds it) or downloaded at the pinned revision.

    Raises `DataError` for a file that is missing, cannot be reached, or is not what its digest or an earlier download
    says; `BadInput` for a set without files.
    """
    asked = named(name)
    if asked.missing is not None:
        raise BadInput(f"{asked.title} cannot be fetched: {asked.missing}", hint=f"see {asked.home} and {asked.paper}")
    before = lock_of(name)
    for path, pin in asked.files.items():
        content = _from_folder(source, path) if source is not None else _downloaded(asked.url(path))
        earlier = before.files.get(path) if before is not None else None
        yield path, content, checked(name, path, content, pin, earlier)


def checked(name: str, path: str, content: bytes, pin: Pin, earlier: Locked | None) -> Locked:
    """What is locked of a file. Raises `DataError` where its bytes are not those that are pinned or came before."""
    found = hashlib.sha256(content).hexdigest()
    expected = pin.sha256 or (earlier.sha256 if earlier is not None else None)
    if expected is not None and found != expected:
        how = {"computed": "pinned", "reported": "reported by others for this revision"}.get(pin.proof or "", FIRST)
        raise DataError(
            f"{name}: {path}: SHA-256 is {found[:12]}, expected {expected[:12]} ({how})",
            hint="the file changed or was cut; fetch it again"
            + ("" if pin.sha256 else f", or delete {folder(name) / LOCK} if you trust what is there now"),
        )
    return Locked(found, len(content), pin.proof or FIRST)


def _from_folder(source: Path, path: str) -> bytes:
    for place in (source / path, source / Path(path).name):
        if place.is_file():
            return place.read_bytes()
    raise DataError(f"{source / path} is not there", hint=f"--from takes the folder that holds {path}")


def _downloaded(url: str) -> bytes:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it would announce the file, and a digest that is not known yet
    with tempfile.TemporaryDirectory() as room:
        try:
            return Path(pooch.retrieve(url, known_hash=None, fname="file", path=room)).read_bytes()
        except requests.RequestException as error:
            raise DataError(
                f"{url} cannot be reached ({type(error).__name__})",
                hint="check the network, or give a copy of the files with --from FOLDER",
            ) from error


def write_lock(name: str, lock: Lock) -> None:
    place = folder(name) / LOCK
    with explained("write", place, hint=UNWRITABLE, kind=DataError):
        write_whole(place, json.dumps(msgspec.to_builtins(lock), indent=1).encode() + b"\n")
