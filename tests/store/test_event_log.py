"""The event log: whole lines, from many processes, that stop no work."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from refusalctl.store.event_log import EventLog, old_logs, read_run, runs, told
from refusalctl.store.store import Store
from refusalctl.store.verify import verify


def test_lines_come_back_in_order_with_what_a_kill_cut_short(tmp_path: Path) -> None:
    store = Store(tmp_path)
    log, worker = EventLog(store), None
    with told(log, "run", "run"):
        worker = EventLog(store, log.run, "elsewhere-7")
        with worker.goal("select:en"), told(worker, "step", "collect", about={"lang": "en"}) as end:
            end.facts["id"] = "0" * 64
    with worker.path.open("ab") as content:
        content.write(b'{"time": "2026-')
    found = read_run(store, log.run)
    assert [(e.event, e.scope, e.name) for e in found.events] == [
        ("began", "run", "run"), ("began", "step", "collect"), ("ended", "step", "collect"), ("ended", "run", "run"),
    ]  # fmt: skip
    ended = found.events[2]
    assert (ended.goal, ended.id, ended.about, ended.pid) == ("select:en", "0" * 64, {"lang": "en"}, os.getpid())
    assert ended.seconds is not None
    assert found.unread == 1
    assert runs(store) == [log.run]
    assert len(list((tmp_path / "events").iterdir())) == 2
    assert verify(store) == (0, [], [])  # it is no stranger in the store


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    log = EventLog(Store(tmp_path))

    def many() -> None:
        for i in range(100):
            log.write("found", "step", "collect", about={"lang": "x" * (i * 40)})

    threads = [threading.Thread(target=many) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    found = read_run(log.store, log.run)
    assert (len(found.events), found.unread) == (400, 0)


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    heard: list[str] = []
    (tmp_path / "events").write_text("in the way")
    log = EventLog(Store(tmp_path, heard.append))
    with told(log, "run", "run"):
        log.write("found", "step", "collect")
    assert len(heard) == 1
    assert "events are not written down" in heard[0]


def test_how_a_block_ended_is_told(tmp_path: Path) -> None:
    log = EventLog(Store(tmp_path))
    for raised in (ValueError("SECRET"), KeyboardInterrupt(), SystemExit(143)):
        with pytest.raises(type(raised)), told(log, "run", "run"):
            raise raised
    ends = [e for e in read_run(log.store, log.run).events if e.event != "began"]
    assert [(e.event, e.error) for e in ends] == [
        ("failed", "ValueError"), ("interrupted", "KeyboardInterrupt"), ("interrupted", "SystemExit"),
    ]  # fmt: skip
    assert "SECRET" not in log.path.read_text(encoding="utf-8")


def test_only_logs_that_nobody_wrote_to_for_long_are_old(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fresh, stale = EventLog(store), EventLog(store)
    for log in (fresh, stale):
        log.write("began", "run", "run")
    long_ago = time.time() - 91 * 24 * 3600
    os.utime(stale.path, (long_ago, long_ago))
    assert old_logs(store) == [stale.path]
