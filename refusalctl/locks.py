"""One writer at a time, among processes and machines: who waits is told for whom, and nobody waits for the dead.

A lock is a *lease*: a file that names its owner, whose time is renewed every `BEAT` seconds. It is made whole beside
its place and put there by `link`, which one process alone can do; where a file system has no hard links, by exclusive
creation. A lease is stale where its owner's process is gone (asked on its own machine), or where it was not renewed
for `STALE` seconds by the clock of who waits. Then *one* of those who wait becomes its successor: who links
`<lock>.<mark>.after`, named by the stale lease, may replace it, by one rename.

Why not `flock`, and why not filelock. `flock` is silently local on many network file systems (NFS mounted `nolock`,
Lustre `localflock`, several FUSE ones): both sides believe to hold it, so it can prove nothing. filelock's soft leases
make their file empty and fill it afterwards (who is killed between leaves one that names nobody, and is not broken),
take over by exchanging two names, which NFS and SMB refuse, and have no room for who works on what.

A lease does not stop an owner that slept past its time: `Lease.lost` says so, and what it writes has to be harmless or
refused then. The store's artifacts are: two writers of one artifact both succeed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import msgspec

from refusalctl.processes import Owner, me
from refusalctl.untrusted import opener, parse_object

# before the threads that renew leases: two that convert to a type first, at once, end the process (`store/manifest.py`)
msgspec.json.Decoder(Owner)

Tell = Callable[[str], None]
BEAT = 10.0  # seconds between two renewals of a lease
STALE = 90.0  # seconds without one, by the clock of who waits, after which it is taken over; the same in every version
POLL = 0.1  # seconds between two looks at a lock
NAMELESS = 2.0  # seconds that a file which names nobody is taken for a lease that is being written
CLAIM, AFTER = ".claim", ".after"  # ends of the names of a lease that is on its way, and of a successor's
LONGEST = 1 << 22  # bytes that are read of a lease
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EACCES}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Lease:
    """A lock that is held. `lost`: another process has taken it over meanwhile, because it was not renewed in time."""

    def __init__(self, path: Path, mark: str, tell: Tell) -> None:
        self.path, self.mark, self.lost = path, mark, False
        self._tell, self._pid, self._end = tell, os.getpid(), threading.Event()
        threading.Thread(target=self._renew, name=f"lease {path.name[:12]}", daemon=True).start()

    def _renew(self) -> None:
        while not self._end.wait(min(BEAT, STALE / 3)):
            try:
                if not self.ours():
                    break
                os.utime(self.path)
            except FileNotFoundError:
                break
            except OSError:  # a network that is gone for a moment
                continue
        else:
            return
        if self._end.is_set():  # given up while it was looked for
            return
        self.lost = True
        self._tell(
            f"{self.path.name[:12]} was not renewed in time, and is another process's now: both may do the same work"
        )

    def ours(self) -> bool:
        """Whether it lies there still. Raises `OSError` where that cannot be seen."""
        found = _look(self.path)
        return found is not None and found.mark == self.mark

    def release(self) -> None:
        """Give it up; one that is another's by now, or that a parent process holds, is left alone."""
        self._end.set()
        if os.getpid() == self._pid:
            with suppress(OSError):
                if self.ours():
                    self.path.unlink()


class _Seen(NamedTuple):
    """A lease as it lies there. `mark` is one of no other lease: the digest of what it holds, with its inode where a
    full disk took what it should hold."""

    mark: str
    owner: Owner | None
    empty: bool
    touched: int


def _look(path: Path) -> _Seen | None:
    """What lies there; None for nothing. Opening asks a network file system for what is new."""
    try:
        with os.fdopen(opener(os.fspath(path), os.O_RDONLY), "rb", buffering=0) as file:
            content, facts = file.read(LONGEST), os.fstat(file.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return None
    mark = hashlib.sha256(content or str(facts.st_ino).encode()).hexdigest()[:16]
    return _Seen(mark, _owner(content), not content, facts.st_mtime_ns)


def _owner(content: bytes) -> Owner | None:
    try:
        return msgspec.convert(parse_object(content)["owner"], Owner)
    except (ValueError, TypeError, KeyError):
        return None


def owner_of(path: Path) -> Owner | None:
    """Whom a lock names; None where it names nobody (yet)."""
    try:
        found = _look(path)
    except OSError:
        return None
    return None if found is None else found.owner


def holders(folder: Path) -> dict[Path, Owner]:
    """Locks in a folder whose owners may still live."""
    if not folder.is_dir():
        return {}
    found = {path: owner_of(path) for path in folder.iterdir() if path.suffix == ".lock"}
    return {path: owner for path, owner in found.items() if owner is not None and owner.alive is not False}


@contextmanager
def locked(path: Path, tell: Tell | None = None, *, needs: Sequence[str] = ()) -> Iterator[Lease]:
    """Hold the lock `path` (a file that names its owner, removed at the end) for the block. `tell` hears whom one
    waits for. Raises what the operating system says where no lease can be written.
    """
    lease = _acquire(path, tell or (lambda _text: None), me(needs))
    try:
        yield lease
    finally:
        lease.release()


def _acquire(path: Path, tell: Tell, owner: Owner) -> Lease:
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}{CLAIM}")
    try:
        _write(draft, json.dumps({"owner": asdict(owner), "claim": uuid.uuid4().hex}).encode())
        mine = _look(draft)
        claim = _Claim(path, draft, tell)
        while not claim.taken():
            time.sleep(POLL)
        now = _look(path)
        # an empty one is known by its inode, which is another where links are none; there a full disk may also leave
        # the copy empty or cut, although the draft is whole
        if mine is None or mine.empty or (now is not None and now.owner is None):
            mine = now
        return Lease(path, mine.mark if mine is not None else "", tell)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _write(draft: Path, content: bytes) -> None:
    try:
        draft.write_bytes(content)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        draft.write_bytes(b"")  # it is held without a name, so that `gc` can free some space


def _put(draft: Path, place: Path) -> bool:
    """Let `place` be the lease in `draft`, if nothing is there."""
    try:
        os.link(draft, place)
    except FileExistsError:
        with suppress(OSError):  # a network may lose the answer to our own link, and ask again
            return draft.samefile(place)
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return True
    try:
        number = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        with os.fdopen(number, "wb", buffering=0) as file:
            file.write(draft.read_bytes())
    except OSError as error:
        if error.errno not in _FULL:
            place.unlink(missing_ok=True)  # nobody would renew it
            raise
    return True


class _Watch:
    """One file that is waited for, until it is stale."""

    def __init__(self, path: Path) -> None:
        self.path, self.changed = path, time.monotonic()
        self.seen: _Seen | None = None

    def stale(self) -> _Seen | None:
        """The lease that lies there, if its owner is gone or it was not renewed in time."""
        found = _look(self.path)
        if found != self.seen:
            self.seen, self.changed = found, time.monotonic()
        if found is None:
            return None
        if found.owner is not None and found.owner.alive is False:
            return found
        patience = STALE if found.owner is not None or found.empty else NAMELESS
        return found if time.monotonic() - self.changed >= patience else None


class _Claim:
    """One who wants a lock: waits for its owner, and tells whom it waits for, once per owner."""

    def __init__(self, path: Path, draft: Path, tell: Tell) -> None:
        self.path, self.draft, self.tell = path, draft, tell
        self.began = time.monotonic()
        self.told: Owner | None = None
        self.watch = _Watch(path)
        self.successors: dict[str, _Watch] = {}

    def taken(self) -> bool:
        """Try to take it."""
        if _put(self.draft, self.path):
            return True
        stale = self.watch.stale()
        if stale is not None:
            return self._succeeded(stale, stale)
        owner = None if self.watch.seen is None else self.watch.seen.owner
        if owner not in (self.told, None) and time.monotonic() - self.began > 2 * POLL:
            self.told = owner
            self.tell(f"waiting for {owner.words}, who works on the same")
        return False

    def _succeeded(self, stale: _Seen, dead: _Seen) -> bool:
        """Take the place of a stale lease, as the one process that may be the successor of `dead`: its owner, or a
        successor of its that died before it came so far."""
        after = self.path.with_name(f"{self.path.name}.{dead.mark}{AFTER}")
        if not _put(self.draft, after):
            watch = self.successors.setdefault(dead.mark, _Watch(after))
            next_dead = watch.stale()
            return next_dead is not None and self._succeeded(stale, next_dead)
        try:
            found = _look(self.path)
            if found is None or found.mark != stale.mark:  # it has been released, or succeeded
                return False
            self.draft.replace(self.path)
        finally:
            after.unlink(missing_ok=True)
        for path in self.path.parent.iterdir():  # of successors that died; who is late looks again, and finds us
            if path.name.startswith(f"{self.path.name}.") and path.suffix == AFTER:
                path.unlink(missing_ok=True)
        if stale.owner is not None:
            gone = stale.owner
            self.tell(f"{gone.user}@{gone.host} (process {gone.pid}) has gone: its work is taken over")
        return True
