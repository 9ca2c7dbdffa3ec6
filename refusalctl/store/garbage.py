"""What may be deleted from a store, and deleting it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from refusalctl.disk import remove_tree
from refusalctl.locks import holders
from refusalctl.store import names
from refusalctl.store.drafts import draft_name, drop_unfinished, leftovers, unfinished
from refusalctl.store.hashing import digest
from refusalctl.store.store import KINDS, MANIFEST, Artifact, Store
from refusalctl.untrusted import read_bytes

ASKED_FOR = ("report", "transfer", "calibration", "comparison")
BY_PEOPLE = ("sample",)  # its sheets are out with annotators
SHIPPED = ("sample", "polyrefuse", "organism:")  # sets that can be had again
_ID = re.compile(rb"[0-9a-f]{64}")

__all__ = ["dependants", "garbage", "leftovers", "made_by_people", "remove", "stale_marks", "sweep", "unfinished"]


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
    named nothing; so is what a computation in progress says it needs, and what a damaged manifest mentions.
    """
    by_id = {a.id: a for a in store.all()}
    newest = time.time() - min_age
    wanted = [t.partition("/")[2] for t in store.names().values()]
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
    """When an artifact was written or copied here, whichever is later."""
    return max(store.written(artifact), (artifact.path / MANIFEST).stat().st_mtime)


def _mentioned(store: Store, whole: Iterable[str]) -> list[str]:
    """Ids in manifests that are damaged: what they were made from may be needed to mend them."""
    known, found = set(whole), []
    for kind, identifier in store.ids():
        if identifier not in known:
            try:
                content = read_bytes(store.root / kind / identifier / MANIFEST)
            except (OSError, ValueError):
                continue
            found += [each.decode() for each in _ID.findall(content)]
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
    """Delete one artifact, damaged or not: first out of sight by a rename, then its files, marks and names."""
    with store.writing():
        home = store.root / kind / identifier
        grave = store.root / "tmp" / f"removed-{draft_name()}"
        grave.parent.mkdir(parents=True, exist_ok=True)
        home.rename(grave)
        for mark in _marks(store, grave, identifier):
            mark.unlink(missing_ok=True)
        for name, target in store.names().items():
            if target == f"{kind}/{identifier}":
                names.forget(store.root / "names", name)
        remove_tree(grave)


def _marks(store: Store, folder: Path, identifier: str) -> list[Path]:
    """The recipes that gave an artifact: by its manifest, or by looking where that cannot be read."""
    try:
        recipe = store.read_manifest(folder)["recipe"]
    except (OSError, ValueError, TypeError, KeyError):
        return list((store.root / "recipes").glob(f"*/{identifier}"))
    return [store.root / "recipes" / digest(recipe) / identifier]


def sweep(
    store: Store,
    garbage: list[Artifact],
    leftovers: list[Path],
    unfinished: Sequence[Path] = (),
    marks: Sequence[Path] = (),
    min_age: float = 0.0,
) -> None:
    """Remove what `garbage`, `leftovers`, `unfinished` and `stale_marks` found, dependants before what they were
    computed from."""
    order = {a.id: i for i, a in enumerate(store.all())}
    for artifact in sorted(garbage, key=lambda a: -order.get(a.id, 0)):
        remove(store, artifact.kind, artifact.id)
    for folder in leftovers:
        remove_tree(folder)
    for folder in unfinished:
        drop_unfinished(folder, min_age, store.tell)
    for mark in marks:
        mark.unlink(missing_ok=True)


def stale_marks(store: Store, min_age: float = 0.0) -> list[Path]:
    """Marks of results that are gone, untouched for `min_age` seconds: a copy in progress brings them before what they
    mark. Kinds that this version does not know are left alone."""
    found = []
    for key, identifier, kind in store.marks():
        mark = store.root / "recipes" / key / identifier
        if kind in KINDS and not (store.root / kind / identifier).is_dir() and _touched_before(mark, min_age):
            found.append(mark)
    return found


def _touched_before(mark: Path, min_age: float) -> bool:
    try:
        return time.time() - mark.stat().st_mtime >= min_age
    except OSError:  # gone meanwhile
        return False
