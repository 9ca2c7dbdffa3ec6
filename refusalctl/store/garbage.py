"""What may be deleted from a store, and deleting it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import make_durable
from refusalctl.errors import NotFound
from refusalctl.locks import holders
from refusalctl.store import marks, names
from refusalctl.store.dead import drop_left, finish_removal
from refusalctl.store.drafts import (
    Grave,
    dead_locks,
    drop_lock,
    drop_unfinished,
    grave_name,
    graves,
    leftovers,
    pending,
    unfinished,
)
from refusalctl.store.event_log import old_logs
from refusalctl.store.hashing import short
from refusalctl.store.store import KINDS, MANIFEST, Artifact, Store
from refusalctl.untrusted import read_bytes

ASKED_FOR = ("report", "transfer", "calibration", "comparison")
BY_PEOPLE = ("sample",)  # its sheets are out with annotators
SHIPPED = ("sample", "polyrefuse", "organism:")  # sets that can be had again
_ID = re.compile(rb"[0-9a-f]{64}")

__all__ = ["Leftovers", "dependants", "garbage", "left_behind", "made_by_people", "remove", "stale_marks", "sweep"]


def made_by_people(artifact: Artifact) -> bool:
    """Whether no computation could bring it back: labels that people gave, samples that they work on, what was
    imported, and prompts of a set of somebody's own."""
    step = str(artifact.manifest["recipe"].get("step", ""))
    about = artifact.about
    return (
        artifact.kind in BY_PEOPLE
        or about.get("provenance") == "imported"
        or step.startswith(("human-", "import-"))
        or str(about.get("judge", "")).startswith("human:")
        or (artifact.kind == "prompts" and not str(about.get("data")).startswith(SHIPPED))
    )


def garbage(store: Store, min_age: float = 0.0) -> list[Artifact]:
    """Artifacts that no name reaches, directly or through what they were computed from.

    What a user asked for (reports, transfers, calibrations, comparisons) and what people made or imported counts as
    named. What is younger than `min_age` seconds is kept with all that it needs: a run that is not finished yet has
    named nothing; so is what a computation in progress says it needs, what a damaged manifest or its copy mentions, and
    what a name points to whose file was deleted or changed from outside.
    """
    by_id = {a.id: a for a in store.all()}
    newest = time.time() - min_age
    wanted = [t.partition("/")[2] for t in (*store.names().values(), *names.recorded(store.root).values())]
    wanted += [a.id for a in by_id.values() if a.kind in ASKED_FOR or made_by_people(a)]
    wanted += [a.id for a in by_id.values() if _age(store, a) > newest]
    wanted += [i for owner in holders(store.root / "partial").values() for i in owner.needs]
    wanted += _mentioned(store, by_id)
    kept: set[str] = set()
    while wanted:
        identifier = wanted.pop()
        if identifier in by_id and identifier not in kept:
            kept.add(identifier)
            wanted += by_id[identifier].inputs.values()
    return [a for a in by_id.values() if a.id not in kept]


def _age(store: Store, artifact: Artifact) -> float:
    """When an artifact was written or copied here, whichever is later; of one that is removed just now, now."""
    try:
        return max(store.written(artifact), (artifact.path / MANIFEST).stat().st_mtime)
    except FileNotFoundError:
        return math.inf


def _mentioned(store: Store, whole: Iterable[str]) -> list[str]:
    """Ids in manifests that are damaged, and in the copies of those that are gone: what they were made from may be
    needed to mend them."""
    known, found = set(whole), []
    for kind, identifier in store.folders():
        if identifier not in known:
            with suppress(OSError, ValueError):
                content = read_bytes(store.root / kind / identifier / MANIFEST)
                found += [each.decode() for each in _ID.findall(content)]
            for mark in marks.looked_for(store.root, identifier):
                with suppress(OSError, ValueError):
                    found += [each.decode() for each in _ID.findall(read_bytes(mark.path))]
    return found


def dependants(store: Store, identifiers: Iterable[str]) -> list[Artifact]:
    """What was made from these artifacts, directly or through others; without themselves."""
    gone = set(identifiers)
    found: list[Artifact] = []
    everything, before = store.all(), -1
    while before != len(found):
        before = len(found)
        for artifact in everything:
            if artifact.id not in gone and gone & set(artifact.inputs.values()):
                gone.add(artifact.id)
                found.append(artifact)
    return found


def remove(store: Store, kind: str, identifier: str) -> None:
    """Delete one artifact, damaged or not: first out of sight by a rename, then its names, marks and files. Where that
    is cut short, the next start or `gc` goes on. Raises `NotFound` where another process was faster."""
    with store.writing():
        home = store.root / kind / identifier
        grave = store.root / "tmp" / grave_name(kind, identifier)
        make_durable(grave.parent)
        try:
            home.rename(grave)
        except FileNotFoundError as error:
            if home.exists():
                raise
            raise NotFound(f"there is no {kind} {short(identifier)}: another process removed it") from error
        finish_removal(store.root, Grave(kind, identifier, grave))


class Leftovers(NamedTuple):
    """What nobody works on any more. `drafts`: in `tmp/`; `rows`: of interrupted steps in `partial/`; `marks`: of
    results that are gone; `locks`: of processes that have ended; `logs`: of runs that ended long ago."""

    drafts: Sequence[Path] = ()
    rows: Sequence[Path] = ()
    marks: Sequence[Path] = ()
    locks: Sequence[Path] = ()
    logs: Sequence[Path] = ()


def left_behind(store: Store, min_age: float = 0.0) -> Leftovers:
    """What killed processes left, untouched for `min_age` seconds."""
    root = store.root
    marked = stale_marks(store, min_age)
    return Leftovers(leftovers(root, min_age), unfinished(root, min_age), marked, dead_locks(root), old_logs(store))


def sweep(store: Store, garbage: Sequence[Artifact], left: Leftovers, min_age: float = 0.0) -> None:
    """Remove what `garbage` and `left_behind` found, dependants before what they were computed from."""
    with store.writing():
        order = {a.id: i for i, a in enumerate(store.all())}
        for artifact in sorted(garbage, key=lambda a: -order.get(a.id, 0)):
            with suppress(NotFound):  # another process sweeps too
                remove(store, artifact.kind, artifact.id)
        buried = {grave.folder: grave for grave in graves(store.root)}
        for folder in left.drafts:
            drop_left(store.root, folder, buried.get(folder))
        for folder in left.rows:
            drop_unfinished(folder, min_age, store.tell)
        for mark in left.marks:
            marks.drop(store.root, marks.read(mark))
        for lock in left.locks:
            drop_lock(lock)
        for log in left.logs:
            log.unlink(missing_ok=True)
        names.settle(store.root)


def stale_marks(store: Store, min_age: float = 0.0) -> list[Path]:
    """Marks of results that are gone, untouched for `min_age` seconds: a copy in progress brings them before what they
    mark. Kinds and versions that this one does not know are left alone, and so is what is just coming."""
    found, coming = [], pending(store.root, dead=False)
    for mark in marks.every(store.root):
        if mark.newer or mark.id in coming or not _touched_before(mark.path, min_age):
            continue
        kinds = KINDS if mark.kind is None else (mark.kind,)
        if not any((store.root / kind / mark.id).is_dir() for kind in kinds):
            found.append(mark.path)
    return found


def _touched_before(mark: Path, min_age: float) -> bool:
    try:
        return time.time() - mark.stat().st_mtime >= min_age
    except OSError:  # gone meanwhile
        return False
