"""What the dead left: drafts in `tmp/`, each called after its process, and rows in `partial/`, whose lock names it."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from refusalctl.disk import remove_tree
from refusalctl.locks import Tell, locked, owner_of
from refusalctl.processes import lives, me

FORGOTTEN = 7 * 24 * 3600.0  # seconds untouched, after which a draft of a machine that cannot be asked is left over


def draft_name() -> str:
    """`<pid>-<born>-<machine>-<boot>-<number>` of this process."""
    owner = me()
    return f"{owner.pid}-{owner.born or 0}-{owner.machine}-{owner.boot}-{uuid.uuid4().hex[:12]}"


def leftovers(root: Path, min_age: float = 0.0) -> list[Path]:
    """Drafts whose writer was killed, untouched for `min_age` seconds; of other machines, for a week."""
    home = root / "tmp"
    if not home.is_dir():
        return []
    found = []
    for folder in sorted(home.iterdir()):
        alive = _alive(folder.name)
        if not alive and time.time() - _touched(folder) >= (min_age if alive is False else max(min_age, FORGOTTEN)):
            found.append(folder)
    return found


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


def _rows(home: Path) -> list[Path]:
    """Folders of finished rows; also one that is gone but whose lock its owner left."""
    if not home.is_dir():
        return []
    return sorted({path.with_suffix("") if path.suffix == ".lock" else path for path in home.iterdir()} - _leases(home))


def _leases(home: Path) -> set[Path]:
    return {path for path in home.iterdir() if path.suffix == ".lease"}


def _abandoned(folder: Path, min_age: float) -> bool:
    lock = folder.with_suffix(".lock")
    owner = owner_of(lock)
    alive = owner.alive if owner is not None else False
    idle = time.time() - max(_touched(folder), _touched(lock))
    return not alive and idle >= (min_age if alive is False else max(min_age, FORGOTTEN))


def _alive(name: str) -> bool | None:
    """Whether the process that a draft is called after lives; None where that cannot be asked here."""
    parts = name.split("-")
    here = me()
    if len(parts) == 2 and parts[0].isdigit():  # as older versions called them
        return lives(int(parts[0]), "", here.machine, here.boot)
    if len(parts) == 5 and parts[0].isdigit():
        pid, born, machine, boot, _ = parts
        return lives(int(pid), "" if born == "0" else born, machine, boot)
    return False  # `removed-...`: on its way out; or of nobody


def _touched(folder: Path) -> float:
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        try:
            newest = max(newest, path.lstat().st_mtime)
        except OSError:  # gone meanwhile
            continue
    return newest
