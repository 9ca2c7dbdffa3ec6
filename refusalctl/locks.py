"""One writer at a time, among processes and machines: who waits is told for whom, and nobody waits for the dead.

The locks are filelock's: one that the operating system keeps, or, where a file system knows none, a lease that is
renewed. What is here says whose they are.
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from refusalctl.processes import Owner, me
from refusalctl.untrusted import SMALL, parse_object

if TYPE_CHECKING:
    from filelock import BaseFileLock, OwnerRecord, SoftFileLease

Tell = Callable[[str], None]
NO_LOCKS = {errno.ENOLCK, errno.EBADF, errno.ENOTSUP, errno.ESTALE, errno.ENOSYS, errno.EINVAL, errno.EIO}
BEAT = 10.0  # seconds between two renewals of a lease
STALE = 90.0  # seconds without one, by the clock of who waits, after which it is taken over; the same in every version
POLL = 0.1  # seconds between two looks at a lock
TRIES = 5  # looks at a lock file that another machine removes (ESTALE) before its file system is believed to have none


def owner_of(path: Path) -> Owner | None:
    """Whom a lock names; None where it names nobody (yet)."""
    try:
        with path.open("rb", buffering=0) as content:
            content.seek(1)  # Windows keeps the lock on the first byte, which nobody else may read
            value = parse_object(b"{" + content.read(SMALL))["owner"]
        return msgspec.convert(value, Owner)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def holders(folder: Path) -> dict[Path, Owner]:
    """Locks in a folder whose owners may still live."""
    if not folder.is_dir():
        return {}
    found = {path: owner_of(path) for path in folder.iterdir() if path.suffix == ".lock"}
    return {path: owner for path, owner in found.items() if owner is not None and owner.alive is not False}


@contextmanager
def locked(path: Path, tell: Tell | None = None, *, needs: Sequence[str] = ()) -> Iterator[None]:
    """Hold the lock `path` (a file that names its owner, removed at the end) for the block. `tell` hears whom one
    waits for. Raises what the operating system says where not even a lease can be written.
    """
    owner = me(needs)
    lock = _hold(path, tell or (lambda _text: None), owner)
    try:
        yield
    finally:
        with suppress(OSError):  # before it is released: filelock leaves the file, or it is the next owner's
            if owner_of(path) in (owner, None):
                path.unlink(missing_ok=True)
        lock.release()


def _hold(path: Path, tell: Tell, owner: Owner) -> BaseFileLock:
    from filelock import FileLock

    def named(number: int) -> None:
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(number), path.stat()):
                with suppress(OSError):  # a full disk: it is held, without a name
                    os.ftruncate(number, 0)
                    os.write(number, _content(owner))
                return
        raise OSError(errno.ESTALE, "its last owner has removed it", os.fspath(path))

    lock = FileLock(path, poll_interval=POLL, fallback_to_soft=False, on_acquired=named)
    waiting, tries = _Waiting(path, tell), 0
    while True:
        try:
            if _took(lock, path, waiting):
                return lock
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            tries += 1
            if error.errno != errno.ESTALE or tries == TRIES:
                why = errno.errorcode.get(error.errno, str(error.errno))
                tell(f"this file system has no file locks ({why}): {path.stem[:12]}.lease is used instead")
                return _lease(path, tell, owner)


def _took(lock: BaseFileLock, path: Path, waiting: _Waiting) -> bool:
    """Take a lock. False after a look at a file that may be read but not written, another user's, which filelock
    refuses: it is removed if nobody holds it."""
    from filelock import lock_descriptor

    try:
        lock.acquire(cancel_check=waiting)
    except PermissionError as refused:
        try:
            number = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # removed meanwhile
            if os.access(path.parent, os.W_OK):
                return False
            raise
        with os.fdopen(number), suppress(FileNotFoundError):
            try:
                free = lock_descriptor(number, blocking=False)
            except OSError as error:
                if error.errno == errno.EBADF:  # NFS has locks, but none on a file that is open for reading alone
                    raise refused from error
                raise
            if free and os.path.samestat(os.fstat(number), path.stat()):
                path.unlink()
            elif not free:
                waiting()
                time.sleep(POLL)
        return False
    return True


def _content(owner: Owner) -> bytes:
    return json.dumps({"owner": asdict(owner)}).encode()


def _lease(path: Path, tell: Tell, owner: Owner) -> SoftFileLease:
    """A lease beside `path`, which names its owner here too: filelock's own file has no room for that."""
    from filelock import SoftFileLease

    lost = f"{path.stem[:12]}.lease was not renewed in time, and is another process's now: both may do the same work"
    beat = min(BEAT, STALE / 3)
    lease = SoftFileLease(
        path.with_suffix(".lease"),
        lease_duration=STALE,
        heartbeat_interval=beat,
        poll_interval=POLL,
        on_compromise=lambda _: tell(lost),
    )
    lease.acquire(cancel_check=_Waiting(path, tell, lease))
    gone = owner_of(path)
    if gone is not None:  # whoever ends well removes it
        tell(f"{gone.user}@{gone.host} (process {gone.pid}) has gone: its work is taken over")
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.write_bytes(_content(owner))
    return lease


class _Waiting:
    """What filelock calls between two looks at a lock: tells whom one waits for, once per owner."""

    def __init__(self, path: Path, tell: Tell, lease: SoftFileLease | None = None) -> None:
        self.path, self.tell, self.lease = path, tell, lease
        self.began = self.changed = time.monotonic()
        self.told: Owner | None = None
        self.seen = (0, 0)

    def __call__(self) -> bool:
        owner = owner_of(self.path)
        if owner not in (self.told, None) and time.monotonic() - self.began > 2 * POLL:
            self.told = owner
            self.tell(f"waiting for {owner.words}, who works on the same")
        if self.lease is not None:
            self._clear(Path(self.lease.lock_file), self.lease.owner, owner)
        return False

    def _clear(self, file: Path, record: OwnerRecord | None, owner: Owner | None) -> None:
        """Remove a lease that filelock leaves: where a file system cannot exchange two names (NFS), and where its
        owner is dead but not waited for by its parent. Clocks of other machines are not asked."""
        aside = file.with_name(f".{uuid.uuid4().hex[:12]}.draft")
        with suppress(OSError):
            found, now = file.stat(), time.monotonic()
            if (found.st_ino, found.st_mtime_ns) != self.seen:
                self.seen, self.changed = (found.st_ino, found.st_mtime_ns), now
            dead = owner is not None and owner.alive is False and record is not None and record.pid == owner.pid
            if now - self.changed < (5 * POLL if dead else STALE * 1.1):
                return
            file.rename(aside)
            taken = aside.stat()
            if (taken.st_ino, taken.st_mtime_ns) != self.seen:  # another who waits was faster: it is theirs
                os.link(aside, file)
            aside.unlink()
