"""Looking at a whole store: what was changed, what is missing, what was never finished, and what is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import is_foreign
from refusalctl.errors import NotFound, StoreError
from refusalctl.file_errors import printable
from refusalctl.store import names, references
from refusalctl.store.artifact import MANIFEST, RUN, Artifact, Problem, payload_problems
from refusalctl.store.hashing import short
from refusalctl.store.store import KINDS, Store, is_id

OWN = ("tmp", "partial", "recipes", "names", "cache", "events")  # folders of a store beside the kinds


class Verification(NamedTuple):
    """`foreign`: what other programs left, which nothing reads."""

    checked: int
    problems: list[Problem]
    foreign: list[str]


def require_store(store: Store) -> None:
    """Raise `NotFound` where there is no store: an empty answer would be taken for good news."""
    if not store.root.is_dir():
        raise NotFound(f"there is no store at {store.root}", hint="name one with --store or REFUSALCTL_STORE")
    there = {p.name for p in store.root.iterdir() if not is_foreign(p.name)}
    if there and not there & {*KINDS, *OWN}:
        raise NotFound(f"{store.root} is no artifact store", hint="name one with --store or REFUSALCTL_STORE")


def verify(store: Store, kind: str | None = None) -> Verification:
    """Hash everything again and report what differs from the manifests. Deletes nothing.

    Raises `NotFound` where there is no store, `BadInput` for an unknown kind.
    """
    require_store(store)
    if kind is not None:
        references.check_kind(kind)
    known = {identifier for _, identifier in store.ids()}
    problems: list[Problem] = []
    checked = 0
    for each, identifier in store.folders(kind):
        label = f"{each}/{short(identifier)}"
        if not (store.root / each / identifier / MANIFEST).is_file():
            what = (
                f"it has no {MANIFEST}, as an interrupted copy leaves it: finish the copy, or a run computes it again"
            )
            problems.append(Problem(label, what))
            continue
        checked += 1
        try:
            artifact = store.open(each, identifier)
        except StoreError as error:
            problems.append(Problem(label, error.message))
            continue
        problems += _problems(store, artifact, known)
    problems += _names(store)
    problems += _marks(store, kind)
    foreign = sorted(str(path.relative_to(store.root)) for path in _foreign(store, kind))
    return Verification(checked, problems, foreign)


def _problems(store: Store, artifact: Artifact, known: set[str]) -> Iterator[Problem]:
    try:
        store.run_info(artifact)
    except StoreError as error:
        yield Problem(artifact.label, error.message.removeprefix(f"{artifact.label}: "))
    yield from payload_problems(artifact)
    ours = {*artifact.manifest["files"], MANIFEST, RUN}
    for path in sorted(artifact.path.iterdir()):
        if path.name not in ours and not is_foreign(path.name):
            yield Problem(f"{artifact.label}/{printable(path.name)}", "the manifest does not know this file")
    for role, identifier in artifact.inputs.items():
        if identifier not in known:
            yield Problem(
                artifact.label, f"its {role} {short(identifier)}, which it was made from, is not in the store"
            )


def _names(store: Store) -> Iterator[Problem]:
    known = {f"{k}/{i}" for k, i in store.folders()}
    for name, target in store.names().items():
        if target not in known:
            yield Problem(f"names/{name}", f"points to {target[:30]}, which is not there")
    for name in names.damaged(store.root / "names"):
        yield Problem(f"names/{printable(name)}", "the file holds no artifact's kind and id")


def _marks(store: Store, kind: str | None) -> Iterator[Problem]:
    """What a recipe gave and is gone."""
    there = {identifier for _kind, identifier in store.folders()}
    for key, identifier, each in store.marks():
        if kind in (None, each) and identifier not in there:
            what = f"the {each} {short(identifier)} that it gave is gone: a run computes it again"
            yield Problem(f"recipes/{short(key)}", what)


def _foreign(store: Store, kind: str | None) -> Iterator[Path]:
    """What other programs left, and whatever else stands where only artifacts should."""
    for each in KINDS if kind is None else (kind,):
        for path in _inside(store.root / each):
            if is_foreign(path.name) or not (is_id(path.name) and path.is_dir()):
                yield path
            else:
                yield from (p for p in _inside(path) if is_foreign(p.name))
    if kind is None:
        yield from (p for p in _inside(store.root) if p.name not in {*KINDS, *OWN})
        for room in ("names", "recipes"):
            yield from (p for p in _inside(store.root / room) if is_foreign(p.name))


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
