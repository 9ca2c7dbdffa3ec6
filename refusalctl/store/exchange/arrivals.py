"""A manifest that came from elsewhere, before anything is done by it."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from refusalctl.disk import is_foreign
from refusalctl.errors import Corrupt
from refusalctl.file_errors import printable
from refusalctl.store.artifact import KINDS, MANIFEST, RUN, Artifact
from refusalctl.store.hashing import canonical, digest, short

LONGEST = 1 << 24  # bytes of a manifest that are read
_MOST_CHARACTERS = 120  # of a file's name; ours have 30
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, Meta(ge=0, le=1 << 53)]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    sha256: Digest
    bytes: Size


class _Recipe(msgspec.Struct):
    inputs: dict[str, Digest]
    step: str
    params: Any = None


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal["refusalctl.artifact"]
    version: int
    kind: str
    recipe: _Recipe
    about: dict[str, Any]
    files: dict[str, _File]


def arrived(content: bytes, kind: str, identifier: str, folder: Path, where: str) -> Artifact:
    """The artifact that a manifest from elsewhere describes; its files are not there yet.

    Raises `Corrupt` unless its bytes give its id and every part of it has a sense: files are plain names, inputs ids,
    sizes counts.
    """
    label = f"{kind}/{short(identifier)}"
    if kind not in KINDS:
        raise Corrupt(f"{printable(kind)} in {where} is no kind of artifact", hint="upgrade refusalctl")
    if sha256(content).hexdigest() != identifier:
        raise Corrupt(f"the {MANIFEST} of {label} in {where} was changed: it does not give its id")
    try:
        value = json.loads(content)
        manifest = msgspec.convert(value, _Manifest)
        plain = canonical(value) == content
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"the {MANIFEST} of {label} in {where} is none: {printable(str(error))[:160]}") from error
    if manifest.version != 1:
        raise Corrupt(f"{label} in {where} has format version {manifest.version}", hint="upgrade refusalctl")
    if manifest.kind != kind or not plain:
        raise Corrupt(f"the {MANIFEST} of {label} in {where} is not as this tool writes it")
    for name in manifest.files:
        if not is_plain(name):
            raise Corrupt(f"{label} in {where} names a file {printable(name)[:80]!r}, which may not lie in a store")
    return Artifact(kind, identifier, folder, value)


def is_run(content: bytes) -> bool:
    """Whether bytes are a `run.json` that nobody changed."""
    try:
        record = json.loads(content)
        return bool(digest(record["run"]) == record["digest"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def is_plain(name: str) -> bool:
    """Whether a payload file may be called so: one part of a path on every system, and no file that the store itself
    or another program has."""
    return (
        0 < len(name) <= _MOST_CHARACTERS
        and name.isprintable()
        and not set(name) & set('/\\:*?"<>|')
        and name[0] not in ".~-"
        and name[-1] not in ". "
        and name.casefold() not in (MANIFEST, RUN)
        and not is_foreign(name)
    )
