"""kill -9 at random moments over operations of the store: writing, naming, moving names, removing, collecting, listing
and remembering. Nothing may be damaged, lost or computed twice; the ids and names are those of undisturbed operations;
`gc` leaves nothing.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from benchmarks.torture import forked
from benchmarks.torture.forked import Moment
from benchmarks.torture.kills import MOST_FAILED, Found, after, collected, ids, looked_at, moment_in, say
from benchmarks.torture.rows import Row, Work
from benchmarks.torture.stores import Whole, put, recipe
from refusalctl.errors import NotFound
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.store import garbage
from refusalctl.store.cache import TextCache
from refusalctl.store.hashing import digest
from refusalctl.store.listing import listing
from refusalctl.store.store import Store

N, SHORT, FULL = "kills", 60, 500
KEPT, PASSING = range(20), range(100, 112)  # recipes of artifacts that stay, and of some that are removed


def run(work: Work) -> list[Row]:
    found = of_operations(work.seed, work.n, work.folder / "operations")
    print(*found.told, sep="\n", file=sys.stderr)
    return found.rows()


def of_operations(seed: int, n: int, folder: Path) -> Found:
    """Writing, naming, moving names, removing, collecting, listing and remembering, killed again and again."""
    folder.mkdir()
    random_, found = random.Random(seed), Found()
    log, order = folder / "begun", random_.randint(0, 1 << 30)
    undisturbed = folder / "undisturbed"
    first = forked.run(lambda: operations(undisturbed, order, folder / "first"), undisturbed, Moment(), folder / "log")
    if first.code != 0:
        raise RuntimeError(f"undisturbed operations ended with {first.code}: {(folder / 'log').read_text()}")
    wanted = ids(undisturbed), Store(undisturbed).names()
    root, known = folder / "store", set[Whole]()
    while found.kills < n and found.failed < MOST_FAILED:
        moment = moment_in(random_, first.changes, first.seconds)
        ended = forked.run(partial(operations, root, order, log), root, moment, folder / "log")
        known = after(root, known, log, found, ended, "labels")
        if not ended.killed:
            found.other_ids += (ids(root), Store(root).names()) != wanted
            collected(root, found)
            known = looked_at(root, known, found)
            root, known = folder / f"store-{found.kills}", set()
    return found


def operations(root: Path, order: int, log: Path) -> None:
    """The same operations in the same order; what is there already is not made again."""
    random_, store, cache = random.Random(order), Store(root), TextCache(Store(root), "translations", "key")
    made: dict[int, str] = {}
    for number in random_.sample([*KEPT, *PASSING], len(KEPT) + len(PASSING)):
        kind = "transfer" if number in KEPT else "labels"
        made[number] = computed(store, number, kind, log)
        if number in KEPT:
            store.name(f"name-{number % 4}", store.open(kind, made[number]))
        if number % 3 == 0:
            cache.add({digest(number): "text", digest([number]): "text"})
            listing(store)
        if number % 5 == 0:
            garbage.sweep(store, [], garbage.left_behind(store))
    for number in PASSING:
        with suppress(NotFound):
            garbage.remove(store, "labels", made[number])


def computed(store: Store, number: int, kind: str, log: Path) -> str:
    """An artifact of a recipe: the one that is there, or computed now, row by row."""
    key = digest(recipe(number))
    there = store.find(key)
    if there is not None:
        return there.id
    with store.partial(key) as rows:
        there = store.find(key)
        if there is not None:
            return there.id
        say(log, "begin", key, kind)
        finished = FinishedRows(rows, "rows.jsonl")
        for row in range(len(finished), 4):
            finished.add({"row": row})
        identifier = put(store, number, kind).id
        say(log, "end", key, kind)
        return identifier
