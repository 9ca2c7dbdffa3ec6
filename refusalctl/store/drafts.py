"""Folders in `tmp/`: each is called after the process that writes it, so that those of the dead can be told."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

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
