"""Who a process is: told to others, and asked, on its own machine, whether it still lives."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True)
class Owner:
    """A process, so that others can say who it is, and on its own machine whether it still lives.

    `machine` and `boot` tell machines and their restarts apart, `born` a process from a later one with its number.
    `needs`: ids that it works on.
    """

    user: str
    host: str
    pid: Annotated[int, Meta(ge=1, lt=2**31)]
    born: str
    machine: str
    boot: str
    since: Annotated[float, Meta(ge=0, le=2**38)]
    needs: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.user}@{self.host} (process {self.pid}) since {began}"

    @property
    def alive(self) -> bool | None:
        return lives(self.pid, self.born, self.machine, self.boot)


def me(needs: Sequence[str] = ()) -> Owner:
    """This process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a number without a name, in a container
        user = str(os.getuid()) if sys.platform != "win32" else "somebody"
    pid = os.getpid()
    return Owner(user, socket.gethostname(), pid, _born(pid), *_machine(), time.time(), tuple(needs))


def lives(pid: int, born: str, machine: str, boot: str) -> bool | None:
    """Whether a process still runs; None where it is of another machine, or of Windows, where it cannot be asked."""
    here, now = _machine()
    if machine != here:
        return None
    if boot != now:
        return False
    if sys.platform == "win32":  # there the question would interrupt it
        return True if pid == os.getpid() else None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    found = _born(pid)
    return found != "ended" and (not born or not found or found == born)


@cache
def _machine() -> tuple[str, str]:
    """Digests of this machine (or container) and of its last start."""
    facts = [socket.gethostname()]
    for file in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            facts.append(Path(file).read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            facts.append("")
    with suppress(OSError):
        facts[1] += os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path
    short = [hashlib.sha256(text.encode()).hexdigest()[:8] for text in ("\0".join(facts[:2]), facts[2])]
    return short[0], short[1]


def _born(pid: int) -> str:
    """When a process was started, in ticks since the machine was; empty where that cannot be seen, `ended` for one
    that is dead but whose parent has not asked yet."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "ended" if facts[0] in ("Z", "X") else facts[19]
    except (OSError, IndexError):
        return ""
