"""kill -9 at random moments: over a small `run` from prompts to the report on a planted model, and over operations of
the store. Nothing may be damaged, lost or computed twice; the ids are those of an undisturbed run; `gc` leaves nothing.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.torture import forked
from benchmarks.torture.forked import Ended, Moment
from benchmarks.torture.rows import Row, Work, none
from benchmarks.torture.stores import Whole, left_over, put, recipe, whole_artifacts
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.store import garbage
from refusalctl.store.cache import TextCache
from refusalctl.store.hashing import digest
from refusalctl.store.listing import listing
from refusalctl.store.store import Store
from refusalctl.store.verify import verify

N, SHORT, FULL = "kills of a run and as many of store operations", 60, 500
MODEL = "organism:shared"
SETTINGS = f"""
[experiment]
data = "{MODEL}"
sources = ["qaa"]
targets = ["qaa", "qab"]
n_train = 8
n_val = 6
n_test = 6
positions = [-1]
layers = [3]
max_new_tokens = 8
controls = true
n_controls = 19
[model]
name = "{MODEL}"
device = "cpu"
"""


@dataclass
class Found:
    """What a series of kills did."""

    kills: int = 0
    episodes: int = 0
    damaged: int = 0
    lost: int = 0
    again: int = 0
    other_ids: int = 0
    left: int = 0
    failed: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def rows(self, what: str) -> list[Row]:
        return [
            Row(f"{what}: kills", self.kills),
            Row(f"{what}: times it was done to the end", self.episodes, at_least=1),
            none(f"{what}: artifacts damaged, or told to be", self.damaged),
            none(f"{what}: finished artifacts lost", self.lost),
            none(f"{what}: finished recipes computed again", self.again),
            none(f"{what}: ends with other ids than undisturbed", self.other_ids),
            none(f"{what}: ends that failed", self.failed),
            none(f"{what}: files left after gc", self.left),
        ]


def run(work: Work) -> list[Row]:
    operations = of_operations(work.seed, work.n, work.folder / "operations")
    whole = of_a_run(work.seed, work.n, work.folder / "run")
    for line in (*operations.told, *whole.told):
        print(line, file=sys.stderr)
    steps = [Row(f"a run: kills inside {step}", count) for step, count in sorted(whole.steps.items())]
    return [*operations.rows("store operations"), *whole.rows("a run"), *steps]


def looked_at(root: Path, before: set[Whole], found: Found) -> set[Whole]:
    """What is there after a kill, by our own reading and by `verify`; counts what is wrong."""
    now, wrong = whole_artifacts(root)
    problems = [f"{p.where}: {p.what}" for p in verify(Store(root)).problems] if root.is_dir() else []
    found.damaged += len(wrong) + len(problems)
    lost = before - set(now)
    found.lost += len(lost)
    found.told += [*wrong, *problems, *(f"lost {each.kind}/{each.id[:12]}" for each in lost)]
    return set(now)


def collected(root: Path, found: Found) -> None:
    """What is left of killed processes after `gc`."""
    store = Store(root)
    garbage.sweep(store, [], garbage.left_behind(store))
    left = left_over(root)
    found.left += len(left)
    found.told += [f"left: {each}" for each in left]


# --- operations of the store ---------------------------------------------------------------------------

KEPT, PASSING = range(20), range(100, 112)  # recipes of artifacts that stay, and of some that are removed


def of_operations(seed: int, n: int, folder: Path) -> Found:
    """Writing, naming, moving names, removing, collecting, listing and remembering, killed again and again."""
    folder.mkdir()
    random_, found = random.Random(seed), Found()
    log, order = folder / "begun", random_.randint(0, 1 << 30)
    first = forked.run(lambda: operations(folder / "undisturbed", order, log), folder / "undisturbed", Moment())
    if first.code != 0:
        raise RuntimeError(f"undisturbed operations ended with {first.code}")
    wanted = _ids(folder / "undisturbed"), Store(folder / "undisturbed").names()
    root, known = folder / "store", set[Whole]()
    while found.kills < n:
        log.unlink(missing_ok=True)
        moment = _moment(random_, first.changes, first.seconds)
        ended = forked.run(partial(operations, root, order, log), root, moment, folder / "log")
        known = _after(root, known, log, found, ended)
        if not ended.killed:
            found.other_ids += (_ids(root), Store(root).names()) != wanted
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
        with suppress(FileNotFoundError):
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
        _say(log, "begin", key, kind)
        finished = FinishedRows(rows, "rows.jsonl")
        for row in range(len(finished), 4):
            finished.add({"row": row})
        identifier = put(store, number, kind).id
        _say(log, "end", key, kind)
        return identifier


def _say(log: Path, *words: str) -> None:
    with log.open("a", encoding="utf-8") as out:
        out.write(" ".join(words) + "\n")


def _ids(root: Path) -> set[tuple[str, str]]:
    return {(each.kind, each.id) for each in whole_artifacts(root)[0]}


def _after(root: Path, known: set[Whole], log: Path, found: Found, ended: Ended) -> set[Whole]:
    """Count what a child did that was killed or came to its end; what is there now."""
    keys = {each.key for each in known if each.kind != "labels" or root.parent.name == "run"}
    lines = [line.split() for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    again = [line[2] for line in lines if line[0] == "begin" and line[1] in keys]
    found.again += len(again)
    found.told += [f"again: {step}" for step in again]
    passing = {each for each in known if each.kind == "labels" and root.parent.name != "run"}
    now = looked_at(root, known - passing, found)
    if ended.killed:
        found.kills += 1
        found.steps[lines[-1][2] if lines and lines[-1][0] == "begin" else "no step"] += 1
    else:
        found.episodes += ended.code == 0
        found.failed += ended.code != 0
    return now


def _moment(random_: random.Random, changes: int, seconds: float) -> Moment:
    """Anywhere in the whole: by operations of the file system, or by the clock. What goes on after a kill has less to
    do, and comes to its end every second or third time."""
    if random_.random() < 0.7:
        return Moment(change=random_.randint(1, changes))
    return Moment(seconds=random_.uniform(0, seconds))


# --- a run --------------------------------------------------------------------------------------------


def of_a_run(seed: int, n: int, folder: Path) -> Found:
    """`refusalctl run` until it is done, killed again and again; then from the start, until there were `n` kills."""
    folder.mkdir()
    (folder / "run.toml").write_text(SETTINGS, encoding="utf-8")
    random_, found, log = random.Random(seed), Found(), folder / "begun"
    import_all()
    undisturbed = folder / "undisturbed"
    first = forked.run(lambda: command(undisturbed, folder, log), undisturbed, Moment(), folder / "log")
    if first.code != 0:
        raise RuntimeError(f"the undisturbed run ended with {first.code}: {(folder / 'log').read_text()}")
    root, known = folder / "store", set[Whole]()
    while found.kills < n:
        log.unlink(missing_ok=True)
        moment = _moment(random_, first.changes, first.seconds)
        ended = forked.run(partial(command, root, folder, log), root, moment, folder / "log")
        known = _after(root, known, log, found, ended)
        if not ended.killed:
            found.other_ids += _ids(root) != _ids(undisturbed)
            collected(root, found)
            looked_at(root, known, found)
            root, known = folder / f"store-{found.kills}", set()
    return found


def import_all() -> None:
    """What a run needs is imported once: children are forked."""
    for module in ("matplotlib.pyplot", "sklearn.decomposition", "transformers", "refusalctl.cli.app"):
        import_module(module)


def command(root: Path, folder: Path, log: Path) -> None:
    """`refusalctl run`, which says what it begins to compute and what it has computed."""
    from refusalctl.cli.app import main
    from refusalctl.steps.step import Step, Workbench

    compute = Workbench._compute

    def said(self: Workbench, step: Step, recipe: Any, key: str, *rest: Any) -> Any:
        _say(log, "begin", key, step.name)
        found = compute(self, step, recipe, key, *rest)
        _say(log, "end", key, step.name)
        return found

    Workbench._compute = said  # type: ignore[method-assign]
    sys.argv = ["refusalctl", "run", str(folder / "run.toml"), "--store", str(root)]
    main()
