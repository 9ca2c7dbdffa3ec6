"""The torture in a very short form, each part in a process of its own; and that it tells what it is there to tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.torture.rows import Row, none, share, table
from benchmarks.torture.stores import left_over, put, whole_artifacts
from refusalctl.store.store import Store

ROOT = Path(__file__).resolve().parents[1]
SHORT = {
    "kill_store": ("--n", "4"),
    "crowd": ("--n", "3", "--seconds", "1.5"),
    "rot": ("--n", "25"),
    "many": ("--n", "60"),
    "fuzz": ("--n", "36"),
}


@pytest.mark.parametrize("part", SHORT)
def test_a_short_form_keeps_every_promise(part: str, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.torture", part, *SHORT[part], "--folder", str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_broken_promises_are_told() -> None:
    rows = [none("lost", 1), share("found", 99, 100, at_least=100), share("found of nothing", 0, 0, at_least=100)]
    assert [row.kept for row in rows] == [False] * 3
    good = [none("lost", 0), share("found", 5, 5, at_least=100), Row("seconds", 3.0, "s")]
    assert [row.kept for row in good] == [True] * 3
    told = table([("rot", rows[0]), ("rot", Row("seconds", 0.25, "s"))]).splitlines()
    assert told[1].split() == ["rot", "lost", "1", "0", "BROKEN"]
    assert told[2].split() == ["rot", "seconds", "0.25", "s"]


def test_what_is_damaged_or_left_is_seen_without_the_store_s_own_eyes(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    good, bad = put(store, 1), put(store, 2)
    (bad.path / "rows.jsonl").write_bytes(b"changed")
    found, wrong = whole_artifacts(store.root)
    assert [each.id for each in found] == [good.id]
    assert wrong == [f"labels/{bad.id[:12]}"]
    assert left_over(store.root) == []
    (store.root / "tmp" / "draft").mkdir()
    (store.root / "partial").mkdir(exist_ok=True)
    (store.root / "partial" / "k.lock").write_text("")
    assert left_over(store.root) == ["partial/k.lock", "tmp/draft"]


def test_a_disk_that_refuses_at_every_write_is_one_line_and_nothing_is_damaged(tmp_path: Path) -> None:
    from benchmarks.torture import disk

    found = disk.of_operations(tmp_path / "operations")
    assert not [row for row in found.rows("operations") if not row.kept], found.told
    assert found.refused > 40


def test_a_refusing_disk_refuses_what_is_written_and_nothing_else(tmp_path: Path) -> None:
    import errno

    from benchmarks.torture.failing import Disk, failing

    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    with failing(Disk(inside, errno.EDQUOT, 2, half=True)) as counted:
        (outside).write_text("free", encoding="utf-8")
        (inside / "a").write_text("first", encoding="utf-8")
        with pytest.raises(OSError, match="quota"):
            (inside / "b").write_bytes(b"12345678")
        with pytest.raises(OSError, match="quota"):
            (inside / "folder").mkdir()
        assert (inside / "a").read_text(encoding="utf-8") == "first"
    assert (inside / "b").read_bytes() == b"1234"
    assert counted.writes >= 3
    (inside / "c").write_text("free again", encoding="utf-8")


def test_what_fuzzing_is_there_to_tell_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug, a loop, an allocation, an escape, a signal: each is a finding, and the cases behind it go on."""
    import os
    import random
    import signal
    from collections.abc import Callable

    from benchmarks.torture import fuzz, targets

    def allocate() -> None:
        bytearray(3 << 30)

    def loop() -> None:
        while True:
            pass

    def escape() -> None:
        raise targets.Escaped("got through")

    deeds: list[Callable[[], object]] = [
        lambda: None, lambda: {}["bug"], allocate, escape, lambda: os.kill(os.getpid(), signal.SIGSEGV), loop,
        lambda: None,
    ]  # fmt: skip

    def case(random_: random.Random, folder: Path) -> Callable[[], None]:
        number = int(folder_number.pop(0))
        return lambda: deeds[number]() and None  # type: ignore[func-returns-value]

    folder_number = list(range(len(deeds)))
    monkeypatch.setattr(fuzz, "CPU", 0.5)
    monkeypatch.setitem(targets.TARGETS, "stored", case)
    found = []
    for number in range(len(deeds)):
        folder_number[:] = [number]
        found += fuzz._series("stored", 0, range(1), tmp_path)
    assert [each.outcome for each in found] == ["crash", "memory", "escape", "crash", "hang"]
