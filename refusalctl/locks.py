"""One writer at a time, among processes and machines: who waits is told for whom, and nobody waits for the dead.

Where the file system knows locks, the operating system keeps one on a file and drops it when its owner dies. Network
file systems often know none, or answer with an error that looks like a bug (`ENOLCK`, `EBADF`, `ESTALE`): there a
*lease* is kept, a file with its owner's name that must be renewed; one that is not renewed is taken over.
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

if sys.platform != "win32":
    import fcntl

Tell = Callable[[str], None]
BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
NO_LOCKS = {errno.ENOLCK, errno.EBADF, errno.ENOTSUP, errno.ESTALE, errno.ENOSYS, errno.EINVAL, errno.EIO}
BEAT = 10.0  # seconds between two renewals of a lease
STALE = 90.0  # seconds without a renewal, by the clock of who waits, after which a lease is of a dead owner
SLOWEST = 1.0  # seconds between two looks at a lock


@dataclass(frozen=True)
class Owner:
    """A process, so that others can say who it is, and on its own machine whether it still lives.

    `machine` and `boot` tell machines and their restarts apart, `born` a process from a later one with its number.
    `needs`: ids that it works on.
    """

    user: str
    host: str
    pid: int
    born: str
    machine: str
    boot: str
    since: float
    needs: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.user}@{self.host} (process {self.pid}) since {began}"


def me(needs: Sequence[str] = ()) -> Owner:
    """This process."""
    machine, boot = _machine()
    pid = os.getpid()
    return Owner(_user(), socket.gethostname(), pid, _born(pid), machine, boot, time.time(), tuple(needs))


def lives(pid: int, born: str, machine: str, boot: str) -> bool | None:
    """Whether a process still runs; None where it is of another machine, which nobody can ask."""
    here, now = _machine()
    if machine != here:
        return None
    if boot != now:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    found = _born(pid)
    return found != "ended" and (not born or not found or found == born)


def _alive(owner: Owner) -> bool | None:
    return lives(owner.pid, owner.born, owner.machine, owner.boot)


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


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a number without a name, in a container
        return str(os.getuid()) if hasattr(os, "getuid") else "somebody"


def owner_of(path: Path) -> Owner | None:
    """Whom a lock or a lease names; None where it names nobody (yet)."""
    try:
        value = json.loads(path.read_bytes())["owner"]
        return Owner(**{**value, "needs": tuple(value["needs"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def holders(folder: Path) -> dict[Path, Owner]:
    """Locks and leases in a folder whose owners may still live."""
    if not folder.is_dir():
        return {}
    found = {path: owner_of(path) for path in folder.iterdir() if path.suffix in (".lock", ".lease")}
    return {path: owner for path, owner in found.items() if owner is not None and _alive(owner) is not False}


class _Held(Protocol):
    def release(self) -> None: ...


@contextmanager
def locked(path: Path, tell: Tell | None = None, *, needs: Sequence[str] = ()) -> Iterator[None]:
    """Hold the lock `path` (a file, removed at the end) for the block. `tell` hears whom one waits for.

    Raises what the operating system says where not even a lease can be written.
    """
    held = _hold(path, tell or (lambda _text: None), needs)
    try:
        yield
    finally:
        held.release()


def _hold(path: Path, tell: Tell, needs: Sequence[str]) -> _Held:
    if sys.platform != "win32":
        try:
            return _Lock(path, tell, needs)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            why = errno.errorcode.get(error.errno, str(error.errno))
            tell(f"this file system has no file locks ({why}): {path.stem[:12]}.lease is used instead")
    return _Lease(path.with_suffix(".lease"), tell, needs)


class _Lock:
    """A lock that the operating system keeps."""

    def __init__(self, path: Path, tell: Tell, needs: Sequence[str]) -> None:
        self.path = path
        told = _Waiting(path, tell)
        while True:
            number = _open(path)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(number)
                if error.errno not in BUSY:
                    raise
                if told.owner_is_dead():  # a child that outlived it still holds the file
                    path.unlink(missing_ok=True)
                continue
            if _is_still(number, path):
                break
            os.close(number)  # whoever held it has removed the file meanwhile
        self.number = number
        with suppress(OSError):  # another user's file, which may be locked but not written
            os.ftruncate(number, 0)
            os.pwrite(number, _named(me(needs)), 0)

    def release(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self.number)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY)


def _is_still(number: int, path: Path) -> bool:
    try:
        there, mine = os.stat(path), os.fstat(number)  # noqa: PTH116
    except FileNotFoundError:
        return False
    return (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev)


def _named(owner: Owner, beat: int = 0) -> bytes:
    return json.dumps({"owner": asdict(owner), "beat": beat}).encode()


class _Waiting:
    """One wait: tells whom it is for, once per owner, and knows when that one has died."""

    def __init__(self, path: Path, tell: Tell) -> None:
        self.path, self.tell = path, tell
        self.pause, self.dead = 0.02, 0
        self.told: Owner | None = None
        self.seen: Any = None
        self.seen_at = time.monotonic()

    def owner_is_dead(self) -> bool:
        """Sleep a little, and look."""
        time.sleep(self.pause)
        self.pause = min(SLOWEST, self.pause * 1.5)
        owner = owner_of(self.path)
        if owner is None:
            return False
        if owner != self.told and self.pause > 0.1:
            self.told = owner
            self.tell(f"waiting for {owner.words}, who works on the same")
        # twice: a new owner takes the lock before it writes its name
        self.dead = self.dead + 1 if _alive(owner) is False else 0
        return self.dead > 1

    def not_renewed(self) -> bool:
        """Whether what the lease says has stayed the same for too long. Clocks of other machines are not asked."""
        try:
            content: Any = self.path.read_bytes()
        except OSError:
            content = None
        if content != self.seen:
            self.seen, self.seen_at = content, time.monotonic()
        return time.monotonic() - self.seen_at > STALE


class _Lease:
    """A file that names its owner, who renews it; for file systems without locks."""

    def __init__(self, path: Path, tell: Tell, needs: Sequence[str]) -> None:
        self.path, self.owner = path, me(needs)
        told = _Waiting(path, tell)
        while not self._take():
            dead = told.owner_is_dead()
            if dead or told.not_renewed():
                found = owner_of(path)
                if found is not None:
                    tell(f"{found.user}@{found.host} (process {found.pid}) has gone: its work is taken over")
                _set_aside(path)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _take(self) -> bool:
        try:
            number = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(number, "wb") as out:
            out.write(_named(self.owner))
        return True

    def _renew(self) -> None:
        beat = 0
        while not self._over.wait(BEAT):
            beat += 1
            if owner_of(self.path) != self.owner:
                return  # taken over, while this process slept
            draft = self.path.with_name(f".{uuid.uuid4().hex[:12]}.draft")
            with suppress(OSError):  # a disk that fails for a moment: the next beat tries again
                draft.write_bytes(_named(self.owner, beat))
                draft.replace(self.path)

    def release(self) -> None:
        self._over.set()
        self._thread.join()
        if owner_of(self.path) == self.owner:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _set_aside(path: Path) -> None:
    """Remove a lease of a dead owner; of several who wait, one succeeds."""
    aside = path.with_name(f".{uuid.uuid4().hex[:12]}.draft")
    with suppress(OSError):
        path.rename(aside)
        aside.unlink(missing_ok=True)
