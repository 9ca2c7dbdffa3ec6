"""Leases: who waits is told for whom, the dead are not waited for, one takes over, and no file lock is needed."""

from __future__ import annotations

import errno
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

from refusalctl import locks
from refusalctl.processes import Owner, me

NO_LOCKS = "import fcntl\nfcntl.flock = fcntl.lockf = lambda *_: None\n"  # as a network file system that only pretends
HOLD = "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def started(path: Path, work: str, *, before: str = "", **how: Any) -> subprocess.Popen[str]:
    """Another process that does `work` and has said one word."""
    code = f"{before}import os, sys, time\nfrom pathlib import Path\nfrom refusalctl.locks import locked\n{work}"
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, **how)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(_from: Path, _to: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", link)


def left(path: Path, owner: Owner) -> None:
    """A lease of a process that cannot be asked, or is dead."""
    path.write_text(json.dumps({"owner": asdict(owner), "claim": "x"}))


@pytest.mark.parametrize("links", [False, True])
def test_who_waits_is_told_for_whom_and_takes_over_when_that_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    path, told = tmp_path / "k.lock", list[str]()
    other = started(path, HOLD, before=NO_LOCKS)
    if not links:
        without_links(monkeypatch)
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
    assert f"waiting for {owner.user}@{owner.host} (process {other.pid}) since" in told[0]
    assert f"(process {other.pid}) has gone: its work is taken over" in told[1]
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


NODE7 = {"machine": "elsewhere", "host": "node7", "user": "eva"}


@pytest.mark.parametrize("links", [True, False])
def test_a_lease_of_another_machine_is_taken_over_when_it_is_not_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    told: list[str] = []
    monkeypatch.setattr(locks, "STALE", 0.4)
    if not links:
        without_links(monkeypatch)
    left(tmp_path / "k.lock", replace(me(), **NODE7))
    began = time.monotonic()
    with locks.locked(tmp_path / "k.lock", told.append):
        assert 0.4 < time.monotonic() - began < 5
    assert ["waiting for eva@node7" in told[0], "eva@node7" in told[1], "taken over" in told[1]] == [True] * 3
    assert not list(tmp_path.iterdir())


def test_a_lease_of_another_machine_that_is_renewed_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE", 0.4)
    path, renewed = tmp_path / "k.lock", list[float]()
    left(path, replace(me(), **NODE7))

    def beat() -> None:
        for _ in range(8):
            time.sleep(0.15)
            os.utime(path)
        renewed.append(time.monotonic())

    thread = threading.Thread(target=beat)
    thread.start()
    with locks.locked(path):
        assert renewed
        assert time.monotonic() - renewed[0] > 0.3
    thread.join()


def test_one_of_many_takes_over_and_a_successor_that_died_is_succeeded(tmp_path: Path) -> None:
    """The dead owner's successor died too, before it had its place; then twelve threads want it."""
    path = tmp_path / "k.lock"
    left(path, replace(me(), pid=999999999))
    seen = locks._look(path)
    assert seen is not None
    left(tmp_path / f"k.lock.{seen.mark}.after", replace(me(), pid=999999998))
    inside, most = list[int](), list[int]()

    def work() -> None:
        with locks.locked(path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 12
    assert not list(tmp_path.iterdir())


def test_who_judged_late_does_not_take_the_place_of_a_new_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another who waits was faster: what lies there is not what was judged."""
    path, draft = tmp_path / "k.lock", tmp_path / "draft"
    left(path, replace(me(), pid=999999999))
    left(draft, me())
    claim, put, new = locks._Claim(path, draft, print), locks._put, replace(me(), since=1.0)

    def late(this: Path, place: Path) -> bool:
        done = put(this, place)
        if place.suffix == ".after":
            left(path, new)
        return done

    monkeypatch.setattr(locks, "_put", late)
    assert claim.taken() is False
    assert locks.owner_of(path) == new
    assert sorted(each.name for each in tmp_path.iterdir()) == ["draft", "k.lock"]


def test_a_lease_is_renewed_and_its_loss_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with locks.locked(tmp_path / "k.lock", told.append) as lease:
        before = (tmp_path / "k.lock").stat().st_mtime_ns
        time.sleep(0.2)
        assert (tmp_path / "k.lock").stat().st_mtime_ns != before
        assert (told, lease.lost) == ([], False)
        other = replace(me(), pid=1)
        left(tmp_path / "k.lock", other)
        time.sleep(0.2)
        assert lease.lost
    assert "k.lock was not renewed in time" in told[0]
    assert locks.owner_of(tmp_path / "k.lock") == other  # the next owner's is left


def test_holders_are_those_who_may_still_live(tmp_path: Path) -> None:
    with locks.locked(tmp_path / "a.lock", needs=["x"]):
        dead = replace(me(), pid=999999999)
        (tmp_path / "b.lock").write_text(json.dumps({"owner": asdict(dead)}))
        (tmp_path / "c.lock").write_text("")
        assert [owner.needs for owner in locks.holders(tmp_path).values()] == [("x",)]
    assert not (tmp_path / "a.lock").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[" * 100_000])
def test_a_file_that_names_nobody_is_waited_for_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(locks, "STALE" if content == b"" else "NAMELESS", 0.3)
    (tmp_path / "k.lock").write_bytes(content)
    began = time.monotonic()
    with locks.locked(tmp_path / "k.lock"):
        assert time.monotonic() - began > 0.3
        owner = locks.owner_of(tmp_path / "k.lock")
        assert owner is not None
        assert owner.pid == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o027, 0o640)])
def test_modes_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    old = os.umask(umask)
    try:
        with locks.locked(tmp_path / "k.lock"):
            assert (tmp_path / "k.lock").stat().st_mode & 0o777 == mode
    finally:
        os.umask(old)


def test_a_full_disk_takes_the_name_and_not_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if content:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with locks.locked(tmp_path / "k.lock"):
            assert locks.owner_of(tmp_path / "k.lock") is None
            assert (tmp_path / "k.lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_without_hard_links_leaves_a_lease_that_is_known_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draft is whole, the copy that stands for it is not."""
    without_links(monkeypatch)
    plainly = os.fdopen

    def full(number: int, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = plainly(number, mode, *args, **kwargs)
        if mode != "wb":
            return file
        with file:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with locks.locked(tmp_path / "k.lock") as lease:
            assert lease.ours()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder in which everybody may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be somebody else")
def test_leases_of_another_user_are_waited_for_and_taken_over(shared: Path) -> None:
    path = shared / "k.lock"
    left(path, replace(me(), pid=999999999))
    work = (
        "with locked(Path(sys.argv[1]).with_name('0.lock')): pass\n"  # all is imported, which nobody might not read
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "def tell(text): print(text, flush=True)\n"
        "print('held', flush=True)\n"
        "with locked(Path(sys.argv[1]), tell): print('mine')"
    )
    taken, _ = started(path, work).communicate()
    assert taken.endswith("has gone: its work is taken over\nmine\n")
    assert not path.exists()
    with locks.locked(path):
        other = started(path, work)
        assert other.stdout is not None
        assert f"(process {os.getpid()})" in other.stdout.readline()
    assert other.communicate() == ("mine\n", None)
    assert not path.exists()


def test_a_lease_is_known_by_what_was_written_and_not_by_what_lies_there_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken over before the owner has looked once: nothing of the other's is taken for one's own."""
    path, other, taken = tmp_path / "k.lock", replace(me(), pid=1), locks._Claim.taken

    def succeeded_at_once(claim: locks._Claim) -> bool:
        done = taken(claim)
        left(path, other)
        return done

    monkeypatch.setattr(locks._Claim, "taken", succeeded_at_once)
    with locks.locked(path) as lease:
        assert not lease.ours()
    assert locks.owner_of(path) == other


def test_ones_own_link_whose_answer_was_lost_is_ones_own(tmp_path: Path) -> None:
    draft, place = tmp_path / "draft", tmp_path / "k.lock"
    left(draft, me())
    assert locks._put(draft, place)
    assert locks._put(draft, place)
    left(tmp_path / "another", me())
    assert not locks._put(tmp_path / "another", place)


def test_no_thread_meets_an_owner_that_msgspec_has_half_learned() -> None:
    """Two threads that convert to a type first, at once, ended a process; importing the room is in time."""
    code = "from refusalctl import locks; assert '__msgspec_cache__' in vars(locks.Owner)"
    subprocess.run([sys.executable, "-c", code], check=True)
