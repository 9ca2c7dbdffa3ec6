"""One process that does something and is killed at a moment that a seed chose: before its n-th change of the disk, or
after a time.

Children are forked, so that what takes long to import is imported once. Moments are counted in operations of the file
system, which the interpreter reports (`sys.addaudithook`): the same seed kills at the same moment on a slow machine.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CHANGES = frozenset({
    "open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.utime", "shutil.rmtree",
})  # fmt: skip


class Ended(NamedTuple):
    """How a child ended: `code` is its exit status, negative for a signal; `changes`: operations before that."""

    code: int
    changes: int
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Moment(NamedTuple):
    """When a child is killed: before its `change`-th operation below the folder, of all or of those inside steps called
    `step`; after `seconds`; or never."""

    change: int | None = None
    seconds: float | None = None
    step: str | None = None


inside: list[str] = []  # steps that a child is in, the innermost last; it says so itself
counted = Counter[str]()  # operations inside each kind of step, in a child


Work = Callable[[], object]


def run(work: Work, below: Path, moment: Moment, log: Path | None = None) -> Ended:
    """Do `work` in a child of its own. What it says goes into `log`, or nowhere."""
    shared = mmap.mmap(-1, 8)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of newer Pythons, about forks beside threads: none runs here
        pid = os.fork()
    if pid == 0:  # never returns: what the parent would do at its end is not the child's
        _child(work, str(below), moment, shared, log)
    _wait(pid, moment.seconds)
    _, status = os.waitpid(pid, 0)
    changes = struct.unpack("q", shared[:8])[0]
    shared.close()
    return Ended(os.waitstatus_to_exitcode(status), changes, time.perf_counter() - started)


def _wait(pid: int, seconds: float | None) -> None:
    if seconds is None:
        return
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)


def _child(work: Work, below: str, moment: Moment, shared: mmap.mmap, log: Path | None) -> None:
    code = 1
    try:
        out = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        changes = 0

        def hook(event: str, args: tuple[object, ...]) -> None:
            nonlocal changes
            if event not in CHANGES or not any(_below(arg, below) for arg in args[:2]):
                return
            if event == "open" and len(args) > 2 and not _writes(args[2]):
                return
            changes += 1
            shared[:8] = struct.pack("q", changes)
            here = inside[-1] if inside else "no step"
            counted[here] += 1
            if moment.change == (changes if moment.step is None else counted[moment.step]):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _below(arg: object, folder: str) -> bool:
    return isinstance(arg, str | os.PathLike) and os.fspath(arg).startswith(folder)


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
