"""What may be deleted from a store, and deleting it."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path

from refusalctl.store.hashing import digest
from refusalctl.store.store import MANIFEST, Artifact, Store, explained

ASKED_FOR = ("report", "transfer", "calibration")


def garbage(store: Store, min_age: float = 0.0) -> list[Artifact]:
    """Artifacts that no name reaches, directly or through what they were computed from.

    Reports, transfers and calibrations count as named: they are what a user asked for. What is younger than `min_age`
    seconds is kept with all that it needs: a run that is not finished yet has named nothing.
    """
    by_id = {a.id: a for a in store.all()}
    newest = time.time() - min_age
    wanted = [t.partition("/")[2] for t in store.names().values()]
    wanted += [a.id for a in by_id.values() if a.kind in ASKED_FOR]
    wanted += [a.id for a in by_id.values() if (a.path / MANIFEST).stat().st_mtime > newest]
    kept: set[str] = set()
    while wanted:
        identifier = wanted.pop()
        if identifier in by_id and identifier not in kept:
            kept.add(identifier)
            wanted += by_id[identifier].inputs.values()
    return [a for a in by_id.values() if a.id not in kept]


def remove(store: Store, artifact: Artifact) -> None:
    """Delete one artifact: first out of sight by a rename, then its files."""
    with explained(store.root):
        grave = store.root / "tmp" / f"removed-{uuid.uuid4().hex[:12]}"
        grave.parent.mkdir(parents=True, exist_ok=True)
        artifact.path.rename(grave)
        shutil.rmtree(grave)
        mark = store.root / "recipes" / digest(artifact.manifest["recipe"]) / artifact.id
        mark.unlink(missing_ok=True)


def sweep(store: Store, garbage: list[Artifact], leftovers: list[Path]) -> None:
    """Remove what `garbage` and `leftovers` found; dependants before what they were computed from."""
    order = {a.id: i for i, a in enumerate(store.all())}
    for artifact in sorted(garbage, key=lambda a: -order[a.id]):
        remove(store, artifact)
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)


def leftovers(store: Store, min_age: float = 0.0) -> list[Path]:
    """Drafts of processes that are gone, untouched for `min_age` seconds: on a shared store a process of another
    host looks gone."""
    home = store.root / "tmp"
    if not home.is_dir():
        return []
    newest = time.time() - min_age
    drafts = [p for p in home.iterdir() if not _alive(p.name.partition("-")[0])]
    return [p for p in drafts if max(f.stat().st_mtime for f in (p, *p.rglob("*"))) <= newest]


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
