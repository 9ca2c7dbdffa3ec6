"""Locks: who waits is told for whom, the dead are not waited for, and file systems without locks have leases."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import SoftFileLease, _soft

from refusalctl import locks
from refusalctl.processes import Owner, me

REFUSE = "import errno, fcntl\ndef refuse(*_): raise OSError(errno.ENOLCK, 'none')\nfcntl.flock = refuse\n"
HOLD = "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def started(path: Path, work: str, *, before: str = "", **how: Any) -> subprocess.Popen[str]:
    """Another process that does `work` and has said one word."""
    code = f"{before}import os, sys, time\nfrom pathlib import Path\nfrom refusalctl.locks import locked\n{work}"
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, **how)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def without_locks(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOLCK) -> None:
    def flock(_number: int, _how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


def left(path: Path, owner: Owner) -> None:
    """A lease of a process that cannot be asked, or is dead."""
    lines = ["filelock/2", f"pid={owner.pid}", f"host={owner.host}", "mode=lease", "token=t", f"duration={locks.STALE}"]
    path.with_suffix(".lease").write_text("".join(f"{line}\n" for line in lines))
    path.write_text(json.dumps({"owner": asdict(owner)}))


@pytest.mark.parametrize("lease", [False, True])
def test_who_waits_is_told_for_whom_and_takes_over_when_that_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lease: bool
) -> None:
    path, told = tmp_path / "k.lock", list[str]()
    other = started(path, HOLD, before=REFUSE if lease else "")
    if lease:
        without_locks(monkeypatch)
    try:
        owner = locks.owner_of(path)
        assert owner is not None
        began = time.monotonic()
        threading.Timer(0.4, other.kill).start()  # its parent does not ask: a zombie
        with locks.locked(path, told.append):
            assert 0.4 < time.monotonic() - began < 10
    finally:
        other.kill()
        other.communicate()
    assert any(f"waiting for {owner.user}@{owner.host} (process {other.pid}) since" in text for text in told)
    assert not list(tmp_path.iterdir())


def test_one_at_a_time(tmp_path: Path) -> None:
    work = (
        "print('held', flush=True); file = Path(sys.argv[1]).with_name('count')\n"
        "for _ in range(20):\n"
        "    with locked(Path(sys.argv[1])):\n"
        "        found = int(file.read_text()); time.sleep(0.001); file.write_text(str(found + 1))"
    )
    (tmp_path / "count").write_text("0")
    others = [started(tmp_path / "k.lock", work) for _ in range(3)]
    assert [other.wait(60) for other in others] == [0, 0, 0]
    for other in others:
        other.communicate()
    assert (tmp_path / "count").read_text() == "60"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_child_that_outlives_the_owner_holds_nothing(tmp_path: Path) -> None:
    work = (
        "with locked(Path(sys.argv[1])):\n"
        "    if os.fork() == 0: os.close(1); time.sleep(3); os._exit(0)\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    other = started(tmp_path / "k.lock", work)
    other.kill()
    other.wait()
    began = time.monotonic()
    with locks.locked(tmp_path / "k.lock"):
        assert time.monotonic() - began < 2
    other.communicate()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EBADF, errno.ENOTSUP, errno.ESTALE, errno.ENOSYS])
def test_a_file_system_without_locks_gets_a_lease_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    told: list[str] = []
    without_locks(monkeypatch, code)
    with locks.locked(tmp_path / "k.lock", told.append, needs=["x"]):
        lease = SoftFileLease(tmp_path / "k.lease").owner
        assert lease is not None
        assert lease.pid == os.getpid()
        (owner,) = locks.holders(tmp_path).values()
        assert (owner.pid, owner.needs) == (os.getpid(), ("x",))
    assert told == [f"this file system has no file locks ({errno.errorcode[code]}): k.lease is used instead"]
    assert not list(tmp_path.iterdir())


def test_a_lock_that_another_machine_removes_just_now_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, real, calls = list[str](), fcntl.flock, list[int]()

    def flock(number: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "gone")
        real(number, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locks.locked(tmp_path / "k.lock", told.append):
        assert not (tmp_path / "k.lease").exists()
    assert not told


@pytest.mark.parametrize("exchange", [True, False])
def test_a_lease_of_another_machine_is_taken_over_when_it_is_not_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """Also where a file system cannot exchange two names, as NFS."""
    told: list[str] = []
    without_locks(monkeypatch)
    monkeypatch.setattr(locks, "STALE", 0.4)
    if not exchange:
        monkeypatch.setattr(_soft, "exchange_names", lambda *_: False)
    left(tmp_path / "k.lock", replace(me(), machine="elsewhere", host="node7", user="eva"))
    began = time.monotonic()
    with locks.locked(tmp_path / "k.lock", told.append):
        assert 0.4 < time.monotonic() - began < 5
    assert any("waiting for eva@node7" in text for text in told)
    assert any("eva@node7" in text and "taken over" in text for text in told)
    assert not list(tmp_path.iterdir())


def test_a_lease_of_a_new_owner_is_not_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another who waits was faster: what is there is not what was judged."""
    path = tmp_path / "k.lock"
    left(path, replace(me(), pid=999999999))
    lease = SoftFileLease(tmp_path / "k.lease")
    waiting = locks._Waiting(path, print, lease)
    waiting()
    monkeypatch.setattr(waiting, "changed", -1e9)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        (tmp_path / "new").write_text("new")
        (tmp_path / "new").replace(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    waiting()
    assert (tmp_path / "k.lease").read_text() == "new"


def test_a_lease_is_renewed_and_its_loss_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    without_locks(monkeypatch)
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with locks.locked(tmp_path / "k.lock", told.append):
        before = (tmp_path / "k.lease").stat().st_mtime_ns
        time.sleep(0.2)
        assert (tmp_path / "k.lease").stat().st_mtime_ns != before
        assert len(told) == 1
        (tmp_path / "k.lease").unlink()
        other = replace(me(), pid=1)
        left(tmp_path / "k.lock", other)
        time.sleep(0.2)
    assert "k.lease was not renewed in time" in told[1]
    assert locks.owner_of(tmp_path / "k.lock") == other  # the next owner's files are left


def test_holders_are_those_who_may_still_live(tmp_path: Path) -> None:
    with locks.locked(tmp_path / "a.lock", needs=["x"]):
        dead = replace(me(), pid=999999999)
        (tmp_path / "b.lock").write_text(json.dumps({"owner": asdict(dead)}))
        (tmp_path / "c.lock").write_text("")
        assert [owner.needs for owner in locks.holders(tmp_path).values()] == [("x",)]
    assert not (tmp_path / "a.lock").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\x00", json.dumps({"owner": asdict(replace(me(), pid=1))}).encode()]
)
def test_leftover_files_stop_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k.lock").write_bytes(content)
    with locks.locked(tmp_path / "k.lock"):
        owner = locks.owner_of(tmp_path / "k.lock")
        assert owner is not None
        assert owner.pid == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lease", [False, True])
@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o027, 0o640)])
def test_modes_follow_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int, mode: int, lease: bool
) -> None:
    if lease:
        without_locks(monkeypatch)
    old = os.umask(umask)
    try:
        with locks.locked(tmp_path / "k.lock"):
            assert (tmp_path / "k.lock").stat().st_mode & 0o777 == mode
    finally:
        os.umask(old)


def test_a_full_disk_takes_the_name_and_not_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with locks.locked(tmp_path / "k.lock"):
            assert locks.owner_of(tmp_path / "k.lock") is None
    assert not list(tmp_path.iterdir())


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder in which everybody may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be somebody else")
def test_files_of_another_user_are_waited_for_and_removed_when_nobody_holds_them(shared: Path) -> None:
    path = shared / "k.lock"
    path.write_text("")
    work = (
        "with locked(Path(sys.argv[1]).with_name('0.lock')): pass\n"  # all is imported, which nobody might not read
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "def tell(text): print(text, flush=True)\n"
        "print('held', flush=True)\n"
        "with locked(Path(sys.argv[1]), tell): print('mine')"
    )
    assert started(path, work).communicate() == ("mine\n", None)
    assert not path.exists()
    with locks.locked(path):
        other = started(path, work)
        assert other.stdout is not None
        assert f"(process {os.getpid()})" in other.stdout.readline()
    assert other.communicate() == ("mine\n", None)
    assert not path.exists()
