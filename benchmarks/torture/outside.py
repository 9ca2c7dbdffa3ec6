"""Stores whose own folders and files are links that lead elsewhere, and a person who works on: nothing may be written,
cut or deleted there."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.torture.stores import payload, recipe
from refusalctl.json_types import JsonObject
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.store import garbage, names
from refusalctl.store.cache import TextCache
from refusalctl.store.drafts import draft_name
from refusalctl.store.event_log import EventLog
from refusalctl.store.hashing import digest
from refusalctl.store.listing import listing
from refusalctl.store.mend import mend
from refusalctl.store.rooms import ROOMS
from refusalctl.store.store import KINDS, Store
from refusalctl.store.verify import verify

NUMBER = 7  # the recipe that is computed
KEY = digest(recipe(NUMBER))
LONG_AGO = 200 * 24 * 3600.0  # seconds: as old as what may be swept


def elsewhere(folder: Path) -> Path:
    """A person's folder, whose files are old and called as a store's own are."""
    home = folder / "home"
    (home / "notes").mkdir(parents=True)
    dead = f"999999999{draft_name()[draft_name().index('-') :]}"
    for name in ("thesis.tex", "rows.jsonl", "key.jsonl", "listing.json", "a.lock", "mine", KEY, dead, "notes/a.txt"):
        (home / name).write_text("precious\n", encoding="utf-8")
    then = time.time() - LONG_AGO
    for path in (*home.rglob("*"), home):
        os.utime(path, (then, then))
    return home


def facts(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def lead_elsewhere(random_: random.Random, root: Path, home: Path) -> None:
    """One to three of the store's own places become links into `home`."""
    folders = [*ROOMS, f"partial/{KEY}", f"recipes/{KEY}", "cache/translations", "tmp/removed.labels.x.1-2-a-b-c"]
    files = [f"partial/{KEY}/rows.jsonl", f"partial/{KEY}.lock", "cache/listing.json", "cache/translations/key.jsonl"]
    files += ["names/mine", "named/x.json", "events/x.jsonl", "tmp/1-2-a-b-c", *(f"{kind}/{KEY}" for kind in KINDS)]
    for place in random_.sample([*folders, *files], random_.randint(1, 3)):
        path = root / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not path.is_symlink():
                path.rename(root.parent / f"real-{place.replace('/', '-')}")
            path.unlink(missing_ok=True)
        except OSError:  # a link stands above it
            continue
        if path.parent.resolve().is_relative_to(root.resolve()):
            path.symlink_to(
                home if place in folders or random_.random() < 0.2 else random_.choice(sorted(home.iterdir()))
            )


def deeds() -> list[Callable[[Store], object]]:
    """What a person does with a store, each by the library."""
    return [_compute, _tidy, _name, _remember, listing, _repair, _remove, _log]


def _compute(store: Store) -> None:
    with store.partial(KEY) as kept:
        FinishedRows(kept, "rows.jsonl").add({"done": 1})
        with store.draft() as out:
            (out / "rows.jsonl").write_bytes(payload(NUMBER))
            about: JsonObject = {"lang": "en"}
            store.commit(out, "labels", recipe(NUMBER), about, {"seconds": 0})


def _tidy(store: Store) -> None:
    garbage.sweep(store, garbage.garbage(store), garbage.left_behind(store))


def _name(store: Store) -> None:
    kind, identifier = store.ids()[0]
    store.name("mine", store.open(kind, identifier))
    names.settle(store.root)


def _remember(store: Store) -> None:
    TextCache(store, "translations", "key").add({"a": "one"})


def _repair(store: Store) -> None:
    mend(store, verify(store).problems)


def _remove(store: Store) -> None:
    garbage.remove(store, *store.ids()[-1])


def _log(store: Store) -> None:
    EventLog(store).write("began", "run", "run")


@contextmanager
def untouched(home: Path, escaped: type[Exception]) -> Iterator[None]:
    """Raises `escaped` where the block changed anything there."""
    before = facts(home)
    yield
    if facts(home) != before:
        raise escaped("something was done where a link leads")
