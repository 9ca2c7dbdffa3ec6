"""What is on its way, and what the dead left of it: drafts in `tmp/`, each called after its process, and rows in
`partial/`, whose lock names it.

An artifact that is being removed lies in `tmp/` too, as `removed.<kind>.<id>.<process>`, until its marks and names are
gone: who comes after a kill finishes that. A damaged one whose place another takes lies there as
`aside.<kind>.<id>.<process>` for the moment between two renames: after a kill there it goes back.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from refusalctl.disk import make_durable, remove_tree, whole
from refusalctl.locks import AFTER, CLAIM, Tell, locked, owner_of
from refusalctl.processes import lives, me
from refusalctl.store.artifact import MANIFEST
from refusalctl.store.rooms import inside
from refusalctl.untrusted import read_bytes

FORGOTTEN = 7 * 24 * 3600.0  # seconds untouched, after which a draft of a machine that cannot be asked is left over
REMOVED, ASIDE = "removed", "aside"
_LOCKS = (".lock", CLAIM, AFTER)


class Grave(NamedTuple):
    """An artifact on its way out, or one that was put aside."""

    kind: str
    id: str
    folder: Path


def draft_name() -> str:
    """`<pid>-<born>-<machine>-<boot>-<number>` of this process."""
    owner = me()
    return f"{owner.pid}-{owner.born or 0}-{owner.machine}-{owner.boot}-{uuid.uuid4().hex[:12]}"


def grave_name(kind: str, identifier: str) -> str:
    return f"{REMOVED}.{kind}.{identifier}.{draft_name()}"


def aside_name(kind: str, identifier: str) -> str:
    return f"{ASIDE}.{kind}.{identifier}.{draft_name()}"


def replace_whole(root: Path, path: Path, content: bytes) -> None:
    """Write a file of the store, or replace it, by one rename; a kill leaves its draft in `tmp/`, where it is swept."""
    draft = root / "tmp" / draft_name()
    make_durable(draft.parent)
    with whole(path, draft):
        draft.write_bytes(content)


def in_tmp(root: Path) -> list[Path]:
    return inside(root / "tmp")


def graves(root: Path) -> list[Grave]:
    """Artifacts that are being removed, or whose removal was cut short."""
    return list(_moved(root, REMOVED))


def put_aside(root: Path) -> list[Grave]:
    """Damaged artifacts that lie beside their place while others take it, or since a kill there."""
    return list(_moved(root, ASIDE))


def _moved(root: Path, how: str) -> Iterator[Grave]:
    parts = ((folder.name.split("."), folder) for folder in in_tmp(root))
    yield from (Grave(p[1], p[2], folder) for p, folder in parts if p[0] == how and len(p) == 4)


def pending(root: Path, *, dead: bool = True) -> set[str]:
    """Ids of artifacts that are in `tmp/`, complete, on their way into the store; without those of the `dead`."""
    found = set()
    for folder in in_tmp(root):
        if not folder.name.startswith(REMOVED) and (dead or alive(folder.name) is not False):
            with suppress(OSError, ValueError):
                found.add(hashlib.sha256(read_bytes(folder / MANIFEST)).hexdigest())
    return found


def leftovers(root: Path, min_age: float = 0.0) -> list[Path]:
    """Drafts whose writer was killed, untouched for `min_age` seconds; of other machines, for a week.

    What was put aside comes first: once it is back, the mark of what was to take its place stays.
    """
    found = []
    for folder in in_tmp(root):
        living = owner_lives(folder) if is_lock(folder) else alive(folder.name)
        if not living and time.time() - _touched(folder) >= (min_age if living is False else max(min_age, FORGOTTEN)):
            found.append(folder)
    return sorted(found, key=lambda folder: not folder.name.startswith(ASIDE))


def unfinished(root: Path, min_age: float = 0.0) -> list[Path]:
    """Folders in `partial/` on which no process works, by the rules of `leftovers`.

    The same run would go on from the rows in them, which is why a young one is none of them.
    """
    return [folder for folder in _rows(root / "partial") if _abandoned(folder, min_age)]


def drop_unfinished(folder: Path, min_age: float, tell: Tell) -> None:
    """Remove a folder that `unfinished` found, unless somebody has taken it up since."""
    lock = folder.with_suffix(".lock")
    if not _abandoned(folder, min_age):
        return
    with locked(lock, tell):
        if time.time() - _touched(folder) >= min_age:
            remove_tree(folder)


def dead_locks(root: Path) -> list[Path]:
    """Locks, and what is on its way to be one, of processes that have ended; without those of rows in `partial/`, which
    `unfinished` finds."""
    found = list[Path]()
    for room in ("partial", "named", "cache"):
        files = (path for path in _all(root / room) if path.suffix in _LOCKS and not owner_lives(path))
        found += (path for path in files if room != "partial" or path.suffix != ".lock")
    return sorted(found)


def is_lock(path: Path) -> bool:
    return path.suffix in _LOCKS


def drop_lock(path: Path) -> None:
    """Remove what `dead_locks` found: a lock by taking it, so that nobody's is removed who was faster."""
    if path.suffix == ".lock":
        with locked(path):
            return
    elif path.suffix == AFTER:  # whose it is, the next one who takes the lock over finds out
        with locked(path.with_name(path.name.rpartition(".lock.")[0] + ".lock")):
            path.unlink(missing_ok=True)
    else:
        path.unlink(missing_ok=True)


def owner_lives(lock: Path) -> bool:
    """Whether a lock's owner may still live; who names nobody is given an hour."""
    owner = owner_of(lock)
    if owner is None:
        return time.time() - _touched(lock) < 3600
    return owner.alive is True or (owner.alive is None and time.time() - _touched(lock) < FORGOTTEN)


def _rows(home: Path) -> list[Path]:
    """Folders of finished rows; also one that is gone but whose lock its owner left."""
    paths = (path for path in inside(home) if path.suffix not in (CLAIM, AFTER))
    return sorted({path.with_suffix("") if path.suffix == ".lock" else path for path in paths})


def _abandoned(folder: Path, min_age: float) -> bool:
    lock = folder.with_suffix(".lock")
    owner = owner_of(lock)
    living = owner.alive if owner is not None else False
    idle = time.time() - max(_touched(folder), _touched(lock))
    return not living and idle >= (min_age if living is False else max(min_age, FORGOTTEN))


def alive(name: str) -> bool | None:
    """Whether the process that a draft or grave is called after lives; None where that cannot be asked here."""
    parts = name.rpartition(".")[2].split("-")
    here = me()
    if len(parts) == 2 and parts[0].isdigit():  # as older versions called them
        return lives(int(parts[0]), "", here.machine, here.boot)
    if len(parts) == 5 and parts[0].isdigit():
        pid, born, machine, boot, _ = parts
        return lives(int(pid), "" if born == "0" else born, machine, boot)
    return None  # of another program, or another version


def _touched(folder: Path) -> float:
    newest = 0.0
    for path in _all(folder):
        try:
            newest = max(newest, path.lstat().st_mtime)
        except OSError:  # gone meanwhile
            continue
    return newest


def _all(folder: Path) -> Iterator[Path]:
    yield folder
    with suppress(OSError):
        yield from folder.rglob("*")
