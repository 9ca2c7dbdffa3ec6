"""Mending a store from what it keeps twice, without computing anything: manifests and marks from each other, names and
their records from each other, caches by forgetting what is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import make_durable
from refusalctl.locks import locked
from refusalctl.store import marks, names
from refusalctl.store.artifact import MANIFEST, Problem
from refusalctl.store.cache import read_line
from refusalctl.store.damage import Damage
from refusalctl.store.drafts import replace_whole
from refusalctl.store.hashing import canonical, content_digest, digest
from refusalctl.store.store import Store, is_id
from refusalctl.untrusted import LARGE, read_bytes


class Mending(NamedTuple):
    """One problem, and what the store itself gives back of it; `how` is None where it gives nothing."""

    problem: Problem
    how: str | None


def mendable(store: Store, problems: Sequence[Problem]) -> list[Mending]:
    """What `mend` would do about each problem."""
    return [Mending(problem, _how(store, problem)) for problem in problems]


def _how(store: Store, problem: Problem) -> str | None:
    damage = problem.damage
    if damage in (Damage.MISSING_MANIFEST, Damage.CHANGED_MANIFEST):
        copied = problem.artifact is not None and _copy(store, problem.artifact[1]) is not None
        return "the manifest is written again, from its copy" if copied else None
    if damage in (Damage.MISSING_MARK, Damage.CHANGED_MARK):
        return "what the recipe gave is marked again, by the manifest"
    if damage in (Damage.MISSING_NAME, Damage.CHANGED_NAME):
        name = problem.where.partition("/")[2]
        return "the name is given again, as recorded" if name in names.recorded(store.root) else None
    if damage in (Damage.MISSING_RECORD, Damage.CHANGED_RECORD):
        return "names are recorded again"
    return "what was changed is forgotten, and made anew" if damage is Damage.CHANGED_CACHE else None


def mend(store: Store, problems: Sequence[Problem]) -> None:
    """Carry it out: manifests first, since marks are made from them."""
    found = {problem.damage for problem in problems}
    with store.writing():
        for problem in problems:
            if problem.damage in (Damage.MISSING_MANIFEST, Damage.CHANGED_MANIFEST) and problem.artifact is not None:
                _write_manifest(store, *problem.artifact)
        if found & {Damage.MISSING_MARK, Damage.CHANGED_MARK}:
            _write_marks(store, problems)
        if found & {Damage.MISSING_NAME, Damage.CHANGED_NAME, Damage.MISSING_RECORD, Damage.CHANGED_RECORD}:
            _write_names(store)
        if Damage.CHANGED_CACHE in found:
            _forget_changed(store)


def _copy(store: Store, identifier: str) -> marks.Mark | None:
    return next((m for m in marks.looked_for(store.root, identifier) if m.manifest is not None), None)


def _write_manifest(store: Store, kind: str, identifier: str) -> None:
    copy = _copy(store, identifier)
    if copy is not None and copy.kind == kind:
        replace_whole(store.root, store.root / kind / identifier / MANIFEST, read_bytes(copy.path))


def _write_marks(store: Store, problems: Sequence[Problem]) -> None:
    """A mark for every artifact that can be read; of the marks that were found changed those that prove nothing go. One
    whose bytes are whole stays, whatever version wrote it: it may be all that is left of a recipe."""
    asked = {p.artifact[1] for p in problems if p.damage is Damage.CHANGED_MARK and p.artifact is not None}
    for mark in list(marks.every(store.root)):
        if mark.id in asked and _proves_nothing(mark):
            with suppress(OSError):
                mark.path.unlink()
                mark.path.parent.rmdir()
    for artifact in store.all():
        manifest = canonical(artifact.manifest)
        marks.write(store.root, digest(artifact.manifest["recipe"]), artifact.id, manifest)


def _proves_nothing(mark: marks.Mark) -> bool:
    if mark.manifest is not None:
        return digest(mark.manifest["recipe"]) != mark.key
    try:
        return not is_id(mark.id) or content_digest(read_bytes(mark.path)) != mark.id
    except ValueError:  # no file of ours
        return True
    except OSError:  # it may be read tomorrow
        return False


def _write_names(store: Store) -> None:
    for file, record in names.records(store.root).items():
        if record is None:
            (store.root / names.RECORDS / file).unlink(missing_ok=True)
    recorded = names.recorded(store.root)
    for name, target in {**names.read(store.root), **recorded}.items():
        if target is not None:
            names.mend(store.root, name, target)


def _forget_changed(store: Store) -> None:
    (store.root / "cache" / "listing.json").unlink(missing_ok=True)
    for file in _text_caches(store.root):
        with locked(file.with_suffix(".lock"), store.tell):
            try:
                lines = read_bytes(file, LARGE).splitlines(keepends=True)
            except (OSError, ValueError):  # no file of ours
                file.unlink()
                continue
            kept = b"".join(line for line in lines if read_line(line) is not None)
            make_durable(file.parent)
            replace_whole(store.root, file, kept)


def _text_caches(root: Path) -> Iterator[Path]:
    yield from sorted((root / "cache").glob("*/*.jsonl"))
