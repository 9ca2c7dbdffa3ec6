"""Mending a store from what it keeps twice, without computing anything: manifests and marks from each other, names and
their records from each other, caches by forgetting what is not as it was written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import make_durable
from refusalctl.errors import Corrupt, NotFound
from refusalctl.file_errors import printable
from refusalctl.locks import locked
from refusalctl.store import marks, names
from refusalctl.store.artifact import MANIFEST, Problem
from refusalctl.store.cache import read_line
from refusalctl.store.damage import Damage
from refusalctl.store.drafts import replace_whole
from refusalctl.store.hashing import canonical, content_digest, digest
from refusalctl.store.store import Store, is_id
from refusalctl.untrusted import LARGE, own_folder, read_bytes


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
        recorded = map(printable, names.recorded(store.root))
        return "the name is given again, as recorded" if _last(problem) in recorded else None
    if damage in (Damage.MISSING_RECORD, Damage.CHANGED_RECORD):
        return "names are recorded again"
    return "what was changed is forgotten, and made anew" if damage is Damage.CHANGED_CACHE else None


def mend(store: Store, problems: Sequence[Problem]) -> None:
    """Carry it out, for what these problems are about and nothing else: manifests first, since marks are made from
    them, and records before the names that are given again by them."""
    by_damage = defaultdict[Damage, list[Problem]](list)
    for problem in problems:
        by_damage[problem.damage].append(problem)
    with store.writing():
        for problem in (*by_damage[Damage.MISSING_MANIFEST], *by_damage[Damage.CHANGED_MANIFEST]):
            if problem.artifact is not None:
                _write_manifest(store, *problem.artifact)
        _write_marks(store, by_damage[Damage.MISSING_MARK], by_damage[Damage.CHANGED_MARK])
        _write_names(store, by_damage)
        for problem in by_damage[Damage.CHANGED_CACHE]:
            _forget_changed(store, problem.where)


def _copy(store: Store, identifier: str) -> marks.Mark | None:
    return next((m for m in marks.looked_for(store.root, identifier) if m.manifest is not None), None)


def _write_manifest(store: Store, kind: str, identifier: str) -> None:
    copy = _copy(store, identifier)
    if copy is not None and copy.kind == kind:
        replace_whole(store.root, store.root / kind / identifier / MANIFEST, read_bytes(copy.path))


def _write_marks(store: Store, missing: Sequence[Problem], changed: Sequence[Problem]) -> None:
    """Marks of these artifacts; of the marks that were found changed those that prove nothing go. One whose bytes are
    whole stays, whatever version wrote it: it may be all that is left of a recipe."""
    asked = {p.artifact[1] for p in (*missing, *changed) if p.artifact is not None}
    if changed:
        for mark in list(marks.every(store.root)):
            if mark.id in asked and _proves_nothing(mark):
                with suppress(OSError):
                    mark.path.unlink()
                    mark.path.parent.rmdir()
    for kind, identifier in store.folders() if asked else ():
        if identifier in asked:
            with suppress(Corrupt, NotFound):  # told of by `verify`
                manifest = store.open(kind, identifier).manifest
                marks.write(store.root, digest(manifest["recipe"]), identifier, canonical(manifest))


def _proves_nothing(mark: marks.Mark) -> bool:
    if mark.manifest is not None:
        return digest(mark.manifest["recipe"]) != mark.key
    try:
        return not is_id(mark.id) or content_digest(read_bytes(mark.path)) != mark.id
    except ValueError:  # no file of ours
        return True
    except OSError:  # it may be read tomorrow
        return False


def _write_names(store: Store, by_damage: Mapping[Damage, Sequence[Problem]]) -> None:
    """A record that proves nothing goes; names that are gone or were changed are given as recorded, and those that
    nothing records are recorded as they are."""
    for problem in by_damage[Damage.CHANGED_RECORD]:
        for file, record in names.records(store.root).items():
            if record is None and printable(file) == _last(problem):
                (store.root / names.RECORDS / file).unlink(missing_ok=True)
    recorded, there = names.recorded(store.root), names.listed(store.root)
    for problem in (*by_damage[Damage.MISSING_NAME], *by_damage[Damage.CHANGED_NAME]):
        _give(store, recorded, _last(problem))
    for problem in by_damage[Damage.MISSING_RECORD]:
        _give(store, there, _last(problem))


def _give(store: Store, targets: Mapping[str, str], shown: str) -> None:
    for name, target in targets.items():
        if printable(name) == shown:
            names.mend(store.root, name, target)


def _last(problem: Problem) -> str:
    return problem.where.rpartition("/")[2]


def _forget_changed(store: Store, where: str) -> None:
    """A cache, as `verify` calls it: the listing, lines of a text cache; rows of unfinished work are cut when they are
    taken up."""
    room, _, shown = where.partition("/")
    if room == "cache" and shown == "listing.json":
        (store.root / room / shown).unlink(missing_ok=True)
    for file in _text_caches(store.root):
        if where == f"cache/{file.parent.name}/{printable(file.name)}":
            _keep_whole_lines(store, file)


def _keep_whole_lines(store: Store, file: Path) -> None:
    with locked(file.with_suffix(".lock"), store.tell):
        try:
            lines = read_bytes(file, LARGE).splitlines(keepends=True)
        except (OSError, ValueError):  # no file of ours
            file.unlink()
            return
        kept = b"".join(line for line in lines if read_line(line) is not None)
        make_durable(file.parent)
        replace_whole(store.root, file, kept)


def _text_caches(root: Path) -> Iterator[Path]:
    yield from (file for file in sorted((root / "cache").glob("*/*.jsonl")) if own_folder(file.parent))
