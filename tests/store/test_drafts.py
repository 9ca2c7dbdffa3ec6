"""What killed processes left in a store: found, swept by `gc`, and told from what a live process works on."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from refusalctl.cli.artifacts import app
from refusalctl.locks import owner_of
from refusalctl.store import drafts, garbage
from refusalctl.store.store import Store

KILLED, LIVE = "a" * 64, "b" * 64


def _work(root: str, ready: str, key: str) -> None:
    store = Store(Path(root))
    with store.partial(key) as partial, store.draft() as draft:
        (partial / "completions.jsonl").write_bytes(b"x" * 500)
        (draft / "data.bin").write_bytes(b"x" * 1000)
        Path(ready).write_text("now")
        time.sleep(60)


@contextmanager
def working(root: Path, key: str) -> Iterator[int]:
    """A process in the middle of a step."""
    ready = root.parent / f"ready-{key[0]}"
    worker = multiprocessing.get_context("spawn").Process(target=_work, args=(str(root), str(ready), key))
    worker.start()
    try:
        while not ready.exists():
            time.sleep(0.01)
        assert worker.pid is not None
        yield worker.pid
    finally:
        worker.kill()
        worker.join()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """One step was killed, another goes on."""
    found = Store(tmp_path / "store")
    with working(found.root, LIVE):
        with working(found.root, KILLED) as pid:
            os.kill(pid, signal.SIGKILL)
        yield found


def left(store: Store, folder: str) -> set[str]:
    return {path.name for path in (store.root / folder).iterdir()}


def test_gc_sweeps_what_the_killed_left_and_nothing_of_the_living(store: Store) -> None:
    def gc(*more: str) -> Result:
        result = CliRunner().invoke(app, ["gc", "--store", str(store.root), *more])
        assert result.exit_code == 0, result.output
        return result

    assert gc().stdout == ""  # a day has not gone by: the run may be taken up
    plan = gc("--keep-hours", "0")
    assert f"partial/{KILLED[:12]}" in plan.stdout
    assert LIVE[:12] not in plan.stdout
    assert plan.stdout.count("tmp/") == 1
    assert "1.5 kB" in plan.stderr
    assert left(store, "partial") == {KILLED, LIVE, f"{KILLED}.lock", f"{LIVE}.lock"}  # a plan deletes nothing
    told = json.loads(gc("--keep-hours", "0", "--json").stdout)
    assert sorted(each.partition("/")[0] for each in told["leftovers"]) == ["partial", "tmp"]
    gc("--keep-hours", "0", "--yes")
    assert left(store, "partial") == {LIVE, f"{LIVE}.lock"}
    assert len(left(store, "tmp")) == 1
    assert gc("--keep-hours", "0").stdout == ""


def test_what_is_taken_up_after_the_plan_stays(store: Store) -> None:
    (planned,) = drafts.unfinished(store.root)
    with store.partial(KILLED):
        garbage.sweep(store, [], garbage.Leftovers(rows=[planned]))
        assert (planned / "completions.jsonl").is_file()


def test_rows_of_another_machine_s_process_are_kept_for_a_week(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = store.root / "partial" / f"{KILLED}.lock"
    owner = owner_of(lock)
    assert owner is not None
    lock.write_bytes(lock.read_bytes().replace(owner.machine.encode(), b"0" * len(owner.machine)))
    assert drafts.unfinished(store.root) == []
    monkeypatch.setattr(drafts, "FORGOTTEN", 0.0)
    assert [path.name for path in drafts.unfinished(store.root)] == [KILLED]
