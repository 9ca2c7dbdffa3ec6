"""Locks: who waits is told for whom, the dead are not waited for, and file systems without locks have leases."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from refusalctl import locks


def hold(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from refusalctl.locks import locked\n"
        f"with locked(Path({str(path)!r})): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


@pytest.mark.parametrize("suffix", [".lock", ".lease"])
def test_who_waits_is_told_for_whom_and_takes_over_when_that_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path, told = tmp_path / "k.lock", list[str]()
    other = hold(path)
    if suffix == ".lease":  # the same owner, on a file system without locks
        (tmp_path / "k.lease").write_bytes(path.read_bytes())
        monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    try:
        owner = locks.owner_of(path)
        assert owner is not None
        began = time.monotonic()
        threading.Timer(0.4, other.kill).start()
        with locks.locked(path, told.append):
            assert time.monotonic() - began > 0.4
    finally:
        other.kill()
        other.communicate()
    assert any(f"waiting for {owner.user}@{owner.host} (process {other.pid}) since" in text for text in told)
    assert not list(tmp_path.glob("*.lease"))


def refusing(code: int):  # type: ignore[no-untyped-def]
    def flock(_number: int, _how: int) -> None:
        raise OSError(code, os.strerror(code))

    return flock


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EBADF, errno.ENOTSUP, errno.ESTALE, errno.ENOSYS])
def test_a_file_system_without_locks_gets_a_lease_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    told: list[str] = []
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    with locks.locked(tmp_path / "k.lock", told.append):
        owner = locks.owner_of(tmp_path / "k.lease")
        assert owner is not None
        assert owner.pid == os.getpid()
    assert "has no file locks" in told[0]
    assert not (tmp_path / "k.lease").exists()


def test_a_lease_of_another_machine_is_taken_over_when_it_is_not_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    monkeypatch.setattr(locks, "STALE", 0.3)
    far = replace(locks.me(), machine="elsewhere", host="node7", user="eva")
    (tmp_path / "k.lease").write_text(json.dumps({"owner": asdict(far), "beat": 3}))
    began = time.monotonic()
    with locks.locked(tmp_path / "k.lock", told.append):
        assert time.monotonic() - began > 0.3
    assert any("waiting for eva@node7" in text for text in told)
    assert any("eva@node7" in text and "taken over" in text for text in told)


def test_a_lease_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with locks.locked(tmp_path / "k.lock"):
        before = (tmp_path / "k.lease").read_bytes()
        time.sleep(0.2)
        assert (tmp_path / "k.lease").read_bytes() != before


def test_a_process_is_known_by_more_than_its_number() -> None:
    mine = locks.me()
    assert locks.lives(mine.pid, mine.born, mine.machine, mine.boot) is True
    assert locks.lives(mine.pid, mine.born, "elsewhere", mine.boot) is None
    assert locks.lives(mine.pid, mine.born, mine.machine, "before") is False
    assert locks.lives(999999999, "", mine.machine, mine.boot) is False
    if mine.born:
        assert locks.lives(mine.pid, "1", mine.machine, mine.boot) is False


def test_holders_are_those_who_may_still_live(tmp_path: Path) -> None:
    with locks.locked(tmp_path / "a.lock", needs=["x"]):
        dead = replace(locks.me(), pid=999999999)
        (tmp_path / "b.lock").write_text(json.dumps({"owner": asdict(dead)}))
        (tmp_path / "c.lock").write_text("")
        assert [owner.needs for owner in locks.holders(tmp_path).values()] == [("x",)]
    assert not (tmp_path / "a.lock").exists()
