"""What both kinds of kills share: the moment, what is counted, and how a store is looked at afterwards."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.torture.forked import Ended, Moment
from benchmarks.torture.rows import Row, none
from benchmarks.torture.stores import Whole, left_over, whole_artifacts
from refusalctl.store import garbage
from refusalctl.store.store import Store
from refusalctl.store.verify import verify

MOST_FAILED = 3  # children that fail by themselves, after which no more are killed


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

    def rows(self) -> list[Row]:
        """What is told of it."""
        return [
            Row("kills", self.kills),
            Row("times it was done to the end", self.episodes, at_least=1),
            none("artifacts damaged, or told to be", self.damaged),
            none("finished artifacts lost", self.lost),
            none("finished recipes computed again", self.again),
            none("ends with other ids than undisturbed", self.other_ids),
            none("ends that failed", self.failed),
            none("files left after gc", self.left),
        ]


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


def ids(root: Path) -> set[tuple[str, str]]:
    """Kind and id of every whole artifact."""
    return {(each.kind, each.id) for each in whole_artifacts(root)[0]}


def say(log: Path, *words: str) -> None:
    """One line into a file that outlives a kill."""
    with log.open("a", encoding="utf-8") as out:
        out.write(" ".join(words) + "\n")


def after(
    root: Path, known: set[Whole], log: Path, found: Found, ended: Ended, passing: str | None = None
) -> set[Whole]:
    """Count what a child did that was killed or came to its end; what is there now. Of the kind `passing` artifacts are
    removed and made again by what the child does."""
    kept = {each for each in known if each.kind != passing}
    keys, inside = {each.key for each in kept}, list[str]()
    for word, key, step in (line.split() for line in _lines(log)):
        if word == "end":
            inside.pop()
            continue
        inside.append(step)
        if key in keys:
            found.again += 1
            found.told.append(f"computed again: {step} {key[:12]}")
    now = looked_at(root, kept, found)
    if ended.killed:
        found.kills += 1
        found.steps[inside[-1] if inside else "no step"] += 1
    else:
        found.episodes += ended.code == 0
        found.failed += ended.code != 0
    log.unlink(missing_ok=True)
    return now


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def moment_in(random_: random.Random, changes: int, seconds: float) -> Moment:
    """Anywhere in the whole: by operations of the file system, or by the clock. What goes on after a kill has less to
    do, and comes to its end every second or third time."""
    if random_.random() < 0.7:
        return Moment(change=random_.randint(1, changes))
    return Moment(seconds=random_.uniform(0, seconds))
