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
