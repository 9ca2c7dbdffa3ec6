"""A manifest that came from elsewhere, before anything is done by it."""

from __future__ import annotations

from pathlib import Path

from refusalctl.disk import is_foreign
from refusalctl.errors import Corrupt
from refusalctl.file_errors import printable
from refusalctl.store import manifest as manifests
from refusalctl.store.artifact import KINDS, Artifact
from refusalctl.store.hashing import canonical, content_digest, digest, short
from refusalctl.store.manifest import MANIFEST
from refusalctl.untrusted import parse_object

_MOST_CHARACTERS = 120  # of a file's name; ours have 30


def arrived(content: bytes, kind: str, identifier: str, folder: Path, where: str) -> Artifact:
    """The artifact that a manifest from elsewhere describes; its files are not there yet.

    Raises `Corrupt` unless its bytes give its id, are as this tool writes them, and every part of it makes sense: files
    are plain names, inputs ids, sizes counts.
    """
    label = f"{kind}/{short(identifier)}"
    if kind not in KINDS:
        raise Corrupt(f"{printable(kind)} in {where} is no kind of artifact", hint="upgrade refusalctl")
    if content_digest(content) != identifier:
        raise Corrupt(f"the {MANIFEST} of {label} in {where} was changed: it does not give its id")
    try:
        value = manifests.parsed(content)
        plain = canonical(value) == content
    except ValueError as error:
        raise Corrupt(f"the {MANIFEST} of {label} in {where} is none: {printable(str(error))[:160]}") from error
    if value.get("version") != 1:
        told = printable(str(value.get("version")))[:40]
        raise Corrupt(f"{label} in {where} has format version {told}, expected 1", hint="upgrade refusalctl")
    if not plain:
        raise Corrupt(f"the {MANIFEST} of {label} in {where} is not as this tool writes it")
    artifact = Artifact(kind, identifier, folder, manifests.checked(value, kind, f"{label} in {where}"))
    check_files(artifact, where)
    return artifact


def check_files(artifact: Artifact, where: str) -> None:
    """Raise `Corrupt` for a manifest that names a file which some system or a store could not keep."""
    for name in artifact.manifest["files"]:
        if not is_plain(name):
            shown = printable(name)[:80]
            raise Corrupt(f"{artifact.label} in {where} names a file {shown!r}, which may not lie in a store")


def is_run(content: bytes) -> bool:
    """Whether bytes are a `run.json` that nobody changed."""
    try:
        record = parse_object(content)
        return bool(digest(record["run"]) == record["digest"])
    except (ValueError, KeyError, TypeError):
        return False


def is_plain(name: str) -> bool:
    """Whether a payload file may be called so: one part of a path on every system, and no file that the store itself
    or another program has."""
    return (
        len(name) <= _MOST_CHARACTERS
        and manifests.unfit_name(name) is None
        and not set(name) & set('*?"<>|')
        and name[0] not in ".~-"
        and name[-1] not in ". "
        and not is_foreign(name)
    )
