"""A store that somebody sent may hold links in the place of its own folders and files. Nothing is written, cut or
deleted where they lead, whatever is done with the store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from refusalctl.errors import RefusalctlError, StoreError
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.store import garbage, rooms
from refusalctl.store.cache import TextCache
from refusalctl.store.event_log import EventLog
from refusalctl.store.hashing import digest
from refusalctl.store.listing import listing
from refusalctl.store.mend import mend
from refusalctl.store.store import Store
from refusalctl.store.verify import verify
from tests.store.test_marks import dead_name, put

LONG_AGO = time.time() - 200 * 24 * 3600
KEY = digest({"step": "test", "version": 1, "params": 2, "inputs": {}})
PLACES = (*rooms.ROOMS, f"partial/{KEY}", f"recipes/{KEY}", "cache/translations", f"partial/{'0' * 64}")
FILES = (f"partial/{KEY}/rows.jsonl", "cache/translations/key.jsonl", "names/theirs", "named/x.json")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What lies elsewhere: old files and folders, called as the store calls what may be swept."""
    made = tmp_path / "home"
    for name in (
        "thesis.tex",
        "a" * 64,
        "key.jsonl",
        "rows.jsonl",
        "old.jsonl",
        "x.lock",
        "x.json",
        "mine",
        dead_name(),
    ):
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text("precious\n", encoding="utf-8")
    (made / "folder").mkdir()
    (made / "folder" / "notes").write_text("precious\n", encoding="utf-8")
    for path in (*made.rglob("*"), made):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return made


def facts(folder: Path) -> dict[str, object]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def compute(store: Store) -> None:
    with store.partial(KEY) as kept:
        FinishedRows(kept, "rows.jsonl").add({"done": 1})
        put(store, 2)


def tidy(store: Store) -> None:
    garbage.sweep(store, garbage.garbage(store), garbage.left_behind(store))


def log(store: Store) -> None:
    EventLog(store).write("began", "run", "run")


def name(store: Store) -> None:
    store.name("mine", put(store, 3))


def remember(store: Store) -> None:
    TextCache(store, "translations", "key").add({"a": "one"})


def list_all(store: Store) -> None:
    listing(store)


def repair(store: Store) -> None:
    mend(store, verify(store).problems)


def remove(store: Store) -> None:
    garbage.remove(store, "labels", store.ids("labels")[0][1])


DEEDS = (compute, tidy, log, name, remember, list_all, repair, remove)


@pytest.mark.parametrize("place", [*PLACES, *FILES])
def test_nothing_is_done_where_a_link_leads(tmp_path: Path, home: Path, place: str) -> None:
    store, before = Store(tmp_path / "store"), facts(home)
    artifact = put(store)
    path = store.root / place
    if path.is_dir():
        path.rename(tmp_path / "real")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(home / "rows.jsonl" if place in FILES else home)
    assert place in FILES or place in [problem.where for problem in verify(store).problems]
    for deed in DEEDS:
        with suppress(RefusalctlError):
            deed(Store(store.root))
        assert facts(home) == before, deed.__name__
    assert artifact.id == put(Store(tmp_path / "other")).id


@pytest.mark.parametrize("deed", [compute, tidy, name, repair, remove])
def test_a_folder_of_the_store_s_own_that_leads_elsewhere_is_refused_in_one_line(
    tmp_path: Path, home: Path, deed: Callable[[Store], None]
) -> None:
    store = Store(tmp_path / "store")
    put(store)
    (store.root / "events").symlink_to(home)
    with pytest.raises(StoreError, match=r"events of the store .* is a symbolic link.*; remove the link"):
        deed(store)


def test_unfinished_work_in_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (store.root / "partial" / KEY).mkdir(parents=True)
    os.mkfifo(store.root / "partial" / KEY / "rows.jsonl")
    compute(store)
    assert store.find(KEY) is not None
