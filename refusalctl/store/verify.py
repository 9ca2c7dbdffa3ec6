"""Looking at a whole store: what was changed, what is missing, what was never finished, and what is not ours.

Every file of a store is written twice or proves itself: payloads by the manifest, manifests by the id and by their copy
in `recipes/`, those copies by their name, names by their record, rows of unfinished work and caches by their digests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import is_foreign
from refusalctl.errors import NotFound, StoreError
from refusalctl.file_errors import printable
from refusalctl.store import marks, references, rooms
from refusalctl.store.artifact import MANIFEST, RUN, Artifact, Problem, payload_problems
from refusalctl.store.damage import Damage
from refusalctl.store.dead import being_moved
from refusalctl.store.hashing import canonical, content_digest, digest, short
from refusalctl.store.store import KINDS, Store, is_id
from refusalctl.store.verify_bookkeeping import caches, names_and_records
from refusalctl.untrusted import parse_object, read_bytes

THREADS = min(8, os.cpu_count() or 1)  # hashing leaves the interpreter to the others; more than disks can feed is idle


class Verification(NamedTuple):
    """`foreign`: what other programs left, which nothing reads."""

    checked: int
    problems: list[Problem]
    foreign: list[str]


class Scope(NamedTuple):
    """What of a store is looked at: all, one kind, or one artifact with all that it was made from."""

    kind: str | None = None
    ids: frozenset[str] | None = None

    def holds(self, kind: str | None, identifier: str) -> bool:
        return self.kind in (None, kind) and (self.ids is None or identifier in self.ids)

    @property
    def whole(self) -> bool:
        return self.kind is None and self.ids is None


def require_store(store: Store) -> None:
    """Raise `NotFound` where there is no store: an empty answer would be taken for good news."""
    if not store.root.is_dir():
        raise NotFound(f"there is no store at {store.root}", hint="name one with --store or REFUSALCTL_STORE")
    there = {p.name for p in store.root.iterdir() if not is_foreign(p.name)}
    if there and not there & {*KINDS, *rooms.ROOMS}:
        raise NotFound(f"{store.root} is no artifact store", hint="name one with --store or REFUSALCTL_STORE")


def verify(
    store: Store,
    kind: str | None = None,
    lineage: str | None = None,
    watched: Callable[[int], Callable[[], None]] | None = None,
) -> Verification:
    """Hash everything again and report what differs from the manifests. Deletes nothing.

    `lineage`: a reference; only that artifact and all that it was made from. `watched` gets the number of folders that
    will be looked at, and gives what is called after each. Raises `NotFound` where there is no store, `BadInput` for an
    unknown kind, and what `Store.resolve` raises for the reference.
    """
    require_store(store)
    if kind is not None:
        references.check_kind(kind)
    scope = Scope(kind, None if lineage is None else frozenset(_lineage(store, lineage)))
    folders = [(k, i) for k, i in store.folders(kind) if scope.holds(k, i)]
    known = {identifier for _, identifier in store.folders()}
    advance = watched(len(folders)) if watched is not None else lambda: None

    def looked(folder: tuple[str, str]) -> list[Problem]:
        try:
            found = list(_folder(store, *folder, known))
        except FileNotFoundError:
            found = []
        advance()
        return found if store.root.joinpath(*folder).is_dir() else []  # removed while it was looked at

    with ThreadPoolExecutor(THREADS) as threads:
        problems = [problem for found in threads.map(looked, folders) for problem in found]
    problems += _marks(store, scope)
    if scope.whole:
        problems += [_linked(store, path) for path in rooms.links(store.root)]
        problems += names_and_records(store)
        problems += caches(store)
    foreign = sorted(str(path.relative_to(store.root)) for path in _foreign(store, kind)) if lineage is None else []
    there = sum((store.root / k / i / MANIFEST).is_file() for k, i in folders)
    return Verification(there, problems, foreign)


def _linked(store: Store, path: Path) -> Problem:
    where = printable(str(path.relative_to(store.root)))
    return Problem(where, "it is a symbolic link, which may lead out of the store", Damage.FOREIGN_FILE)


def _lineage(store: Store, reference: str) -> Iterator[str]:
    """Ids of an artifact and of all that it was made from, by the copies of manifests where these are damaged."""
    kinds = {identifier: kind for kind, identifier in store.folders()}
    left, seen = [_meant(store, reference)], set[str]()
    while left:
        identifier = left.pop()
        if identifier in seen:
            continue
        seen.add(identifier)
        yield identifier
        left += _inputs(store, kinds.get(identifier), identifier)


def _meant(store: Store, reference: str) -> str:
    """The id that a reference means; damaged artifacts may be meant too."""
    try:
        return store.resolve(reference).id
    except StoreError:
        found = references.damaged(store, reference)
        if found is None:
            raise
        return found[1]


def _inputs(store: Store, kind: str | None, identifier: str) -> list[str]:
    if kind is not None:
        try:
            return list(store.open(kind, identifier).inputs.values())
        except StoreError:
            pass
    copies = (mark.manifest for mark in marks.looked_for(store.root, identifier))
    return [each for copy in copies if copy is not None for each in copy["recipe"]["inputs"].values()]


def _folder(store: Store, kind: str, identifier: str, known: set[str]) -> Iterator[Problem]:
    """What is wrong with one artifact."""
    label, manifest = f"{kind}/{short(identifier)}", store.root / kind / identifier / MANIFEST
    if not manifest.is_file():
        what = f"it has no {MANIFEST}, as an interrupted copy leaves it: finish the copy, or a run computes it again"
        yield Problem(label, what, Damage.MISSING_MANIFEST, (kind, identifier))
        return
    try:
        artifact = store.open(kind, identifier)
    except StoreError as error:
        yield Problem(label, error.message, _why(manifest, kind, identifier), (kind, identifier))
        return
    found = [*_manifest(store, artifact), *payload_problems(artifact), *_strangers(artifact)]
    found += _broken_lineage(artifact, known)
    for problem in found:
        yield problem._replace(artifact=(kind, identifier))


def _why(manifest: Path, kind: str, identifier: str) -> Damage:
    """Why a manifest could not be opened."""
    try:
        content = read_bytes(manifest)
        if content_digest(content) != identifier:
            return Damage.CHANGED_MANIFEST
        value = parse_object(content)
        return Damage.WRONG_KIND if value.get("kind") != kind else Damage.UNKNOWN_VERSION
    except OSError:
        return Damage.UNREADABLE
    except (ValueError, TypeError, RecursionError, AttributeError):
        return Damage.CHANGED_MANIFEST


def _manifest(store: Store, artifact: Artifact) -> Iterator[Problem]:
    """Manifest and run record, to the byte: both are canonical JSON."""
    if read_bytes(artifact.path / MANIFEST) != canonical(artifact.manifest):
        yield Problem(artifact.label, f"the bytes of {MANIFEST} were changed", Damage.CHANGED_MANIFEST)
    try:
        run = store.run_info(artifact)
        if read_bytes(artifact.path / RUN) != canonical({"digest": digest(run), "run": run}):
            yield Problem(artifact.label, f"the bytes of {RUN} were changed", Damage.CHANGED_RUN)
    except StoreError as error:
        yield Problem(artifact.label, error.message.removeprefix(f"{artifact.label}: "), Damage.CHANGED_RUN)


def _strangers(artifact: Artifact) -> Iterator[Problem]:
    ours = {*artifact.manifest["files"], MANIFEST, RUN}
    for path in sorted(artifact.path.iterdir()):
        if path.name not in ours and not is_foreign(path.name):
            where = f"{artifact.label}/{printable(path.name)}"
            yield Problem(where, "the manifest does not know this file", Damage.FOREIGN_FILE)


def _broken_lineage(artifact: Artifact, known: set[str]) -> Iterator[Problem]:
    for role, identifier in artifact.inputs.items():
        if identifier not in known:
            what = f"its {role} {short(identifier)}, which it was made from, is not in the store"
            yield Problem(artifact.label, what, Damage.MISSING_INPUT)


def _marks(store: Store, scope: Scope) -> Iterator[Problem]:
    """What a recipe gave and is gone, marks that were changed, and artifacts that no mark knows."""
    there = {identifier: kind for kind, identifier in store.folders()}
    moving, marked = being_moved(store.root), set[tuple[str, str]]()
    for mark in marks.every(store.root):
        kind = mark.kind or there.get(mark.id)
        if not scope.holds(kind, mark.id) and not (mark.manifest is None and scope.whole):
            continue
        where = f"recipes/{short(printable(mark.key))}/{short(printable(mark.id))}"
        if mark.newer:
            what = "a newer refusalctl wrote it: upgrade to look at what its recipe gave"
            yield Problem(where, what, Damage.UNKNOWN_VERSION, (kind or "", mark.id))
        elif mark.manifest is None or digest(mark.manifest["recipe"]) != mark.key:
            yield Problem(where, _changed_mark(mark, kind), Damage.CHANGED_MARK, (kind or "", mark.id))
        elif mark.id not in there and mark.id not in moving:
            what = f"the {mark.kind} {short(mark.id)} that it gave is gone: a run computes it again"
            yield Problem(where, what, Damage.MISSING_ARTIFACT, (mark.manifest["kind"], mark.id))
        marked.add((mark.key, mark.id))
    for identifier, kind in there.items():
        if scope.holds(kind, identifier):
            yield from _unmarked(store, kind, identifier, marked)


def _changed_mark(mark: marks.Mark, kind: str | None) -> str:
    of_what = f"the {kind} that it gave is there" if kind else "what it gave is not there"
    return "it is no copy of a manifest that its recipe gave" if mark.manifest else f"its bytes were changed; {of_what}"


def _unmarked(store: Store, kind: str, identifier: str, marked: set[tuple[str, str]]) -> Iterator[Problem]:
    try:
        key = digest(store.open(kind, identifier).manifest["recipe"])
    except StoreError:  # told already
        return
    if (key, identifier) not in marked:
        what = f"recipes/{short(key)} does not know that it gave it, and would give it again"
        yield Problem(f"{kind}/{short(identifier)}", what, Damage.MISSING_MARK, (kind, identifier))


def _foreign(store: Store, kind: str | None) -> Iterator[Path]:
    """What other programs left, and whatever else stands where only artifacts should."""
    for each in KINDS if kind is None else (kind,):
        for path in _inside(store.root / each):
            if is_foreign(path.name) or not (is_id(path.name) and path.is_dir()):
                yield path
            else:
                yield from (p for p in _inside(path) if is_foreign(p.name))
    if kind is None:
        yield from (p for p in _inside(store.root) if p.name not in {*KINDS, *rooms.ROOMS})
        for room in ("names", "recipes"):
            yield from (p for p in _inside(store.root / room) if is_foreign(p.name))


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
