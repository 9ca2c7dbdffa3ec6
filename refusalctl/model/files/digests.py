"""What identifies a folder of model files: digests of their bytes, remembered for files that nobody touched since."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from refusalctl.disk import write_whole
from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint, embedded
from refusalctl.untrusted import LARGE, bounded, parse_object

SMALL = ("*.json", "*.model", "*.txt", "*.jinja", "*.py", "*.tiktoken", "*.spm")
DEEPER = ("additional_chat_templates/*.jinja", "**/*.py")  # read from subfolders too
_FRESH = 2_000_000_000  # ns; a file changed twice within a clock's tick bears one time
# change times that follow the modification time, or are the time of creation: these say nothing about a copy
_NO_CHANGE_TIME = re.compile(r"fuse|vfat|msdos|exfat|ntfs|9p|drvfs|vboxsf|prl_fs")


def folder_digest(folder: Path, *, pickled: bool = False) -> str:
    """SHA-256 over names and contents of the files that decide what a model does.

    Settings, tokenizer, templates and code, and of the weights what is loaded. Raises `ModelError` where that is not
    clear.
    """
    checkpoint.config(folder)
    return _digest(folder, [*small_files(folder), *checkpoint.weights_files(folder, pickled=pickled)])


def adapter_digest(folder: Path) -> str:
    """The same for an adapter: its small files and its weights."""
    return _digest(folder, [*small_files(folder), folder / checkpoint.ADAPTER])


def _digest(folder: Path, files: Iterable[Path]) -> str:
    paths = sorted(set(files))
    total = hashlib.sha256()
    for path, found in zip(paths, digests(paths), strict=True):
        total.update(f"{path.relative_to(folder).as_posix()}:{found}\n".encode())
    return total.hexdigest()


def small_files(folder: Path) -> list[Path]:
    """All but the weights: at the top, and of subfolders templates and code."""
    top = {p for pattern in SMALL for p in folder.glob(pattern)}
    deeper = {p for pattern in DEEPER for p in folder.glob(pattern)}
    hidden = {p for p in deeper if any(part.startswith(".") for part in p.relative_to(folder).parts)}
    return sorted(p for p in top | deeper - hidden if p.is_file())


def digests(paths: Iterable[Path]) -> list[str]:
    """SHA-256 of each file. Raises `ModelError` for one that changes while it is read."""
    memory = embedded.cache_dir() / "file-digests.json"
    try:
        known = parse_object(bounded(memory, LARGE))
    except (OSError, ValueError):
        known = {}
    result, learned = [], False
    for path in paths:
        mark = _mark(path)
        found = known.get(mark) if mark is not None else None
        if not isinstance(found, str):
            found = _hashed(path)
            if mark is not None:
                known[mark], learned = found, True
        result.append(found)
    if learned:
        _remember(memory, known)
    return result


def _hashed(path: Path) -> str:
    before = path.stat()
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if _times(before) != _times(path.stat()):
        raise ModelError(f"{path} changes while it is read", hint="wait until it is written, and ask again")
    return found


def _times(stat: os.stat_result) -> tuple[int, ...]:
    return (stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)


def _mark(path: Path) -> str | None:
    """What a file's bytes cannot change without: its inode and its change time, which no copy and no `touch` can set.

    None where they may: on file systems without such a time, and for a file that was changed just now. It is then
    hashed each time.
    """
    real = path.resolve()
    stat = real.stat()
    if not _keeps_change_time(stat.st_dev) or time.time_ns() - stat.st_ctime_ns < _FRESH:
        return None
    return ":".join(map(str, (real, *_times(stat), stat.st_dev)))


@cache
def _keeps_change_time(device: int) -> bool:
    """Whether the file system of a device keeps POSIX change times: where the system does not say, it is believed."""
    if sys.platform == "win32":
        return False  # there it is the time of creation
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.split(" - ", 1)[1].split()[0] for line in lines if line.split()[2] == number and " - " in line]
    return not any(_NO_CHANGE_TIME.match(kind) for kind in kinds)


def _remember(memory: Path, known: dict[str, str]) -> None:
    """Losing it costs time alone: a folder that cannot be written to is no error."""
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, json.dumps(known).encode())
