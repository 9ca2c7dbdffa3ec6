"""Many writers and readers on one store for a time: once as it is, and once where no file lock works. Some are killed
and come again. Nobody may fail, read something wrong, or compute what another computes or has computed.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.torture.rows import Row, Work, none
from benchmarks.torture.stores import left_over, payload, put, recipe, whole_artifacts
from refusalctl.errors import Corrupt, NotFound
from refusalctl.processes import lives, me
from refusalctl.store import garbage
from refusalctl.store.cache import TextCache
from refusalctl.store.hashing import digest
from refusalctl.store.listing import listing
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import verify

N, SHORT, FULL = "processes at once", 4, 16
KEPT, PASSING = 400, range(100_000, 100_008)  # recipes that stay; some that are removed and computed again
KILL_EVERY = 0.7  # seconds between two kills


class Log(NamedTuple):
    """What the processes say, a line each, into one file that is only appended to: `word pid key`."""

    file: Path

    def say(self, word: str, key: str = "-") -> None:
        number = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(number, f"{word} {os.getpid()} {key}\n".encode())
        os.close(number)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.file.read_text(encoding="utf-8").splitlines()]


def run(work: Work) -> list[Row]:
    rows: list[Row] = []
    for name, locks in (("as it is", True), ("no file lock works", False)):
        folder = work.folder / name.replace(" ", "-")
        folder.mkdir()
        rows += [row._replace(what=f"{name}: {row.what}") for row in crowded(work, folder, locks)]
    return rows


def crowded(work: Work, folder: Path, locks: bool) -> list[Row]:
    """`work.n` processes for `work.seconds`; what they did wrong."""
    root, log = folder / "store", Log(folder / "log")
    random_, end = random.Random(work.seed), time.monotonic() + work.seconds
    living = {_started(root, log, work.seed * 1000 + i, end, locks) for i in range(work.n)}
    kills, number, ended = 0, work.n, list[int]()
    while time.monotonic() < end:
        time.sleep(KILL_EVERY * random_.uniform(0.5, 1.5))
        pid = random_.choice(sorted(living))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        ended += [] if os.WIFSIGNALED(status) else [os.waitstatus_to_exitcode(status)]
        kills += os.WIFSIGNALED(status)
        living.discard(pid)
        living.add(_started(root, log, work.seed * 1000 + number, end, locks))
        number += 1
    ended += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in living]
    return [*_counted(log.lines()), *_looked_at(root), Row("processes killed", kills), none("exit codes", sum(ended))]


def _counted(lines: list[list[str]]) -> list[Row]:
    said = Counter(word for word, _, _ in lines)
    begun: dict[str, list[str]] = {}
    for word, pid, key in lines:
        if word in ("begin", "end"):
            begun.setdefault(key, []).append(f"{word} {pid}")
    twice = {key: times for key, each in begun.items() if (times := _computed(each)) > 1}
    for key, times in twice.items():
        print(f"computed {times} times: {key}", file=sys.stderr)
    return [
        Row("operations", sum(said[word] for word in ("computed", "read", "named", "removed", "listed", "swept"))),
        Row("recipes computed", len(begun), at_least=1),
        Row("artifacts read", said["read"], at_least=1),
        none("errors", said["error"]),
        none("wrong reads", said["wrong"]),
        none("two at once on one recipe", said["overlap"]),
        none("recipes computed again", len(twice)),
    ]


def _computed(events: list[str]) -> int:
    """How often a recipe was computed to the end. Who was killed on its way is no double computation; what has ended
    and is begun again is one, killed or not."""
    ends, again = 0, 0
    for event in events:
        ends += event.startswith("end")
        again += event.startswith("begin") and ends > 0
    return max(ends, 1 + again)


def _looked_at(root: Path) -> list[Row]:
    """The store afterwards: whole, and clean after `gc`."""
    store = Store(root)
    found, wrong = whole_artifacts(root)
    problems = verify(store).problems
    for problem in problems:
        print(f"{problem.where}: {problem.what}", file=sys.stderr)
    garbage.sweep(store, [], garbage.left_behind(store))
    left = left_over(root)
    print(*(f"left: {each}" for each in left), sep="\n", file=sys.stderr)
    return [
        Row("artifacts at the end", len(found)),
        none("artifacts damaged, or told to be", len(wrong) + len(problems)),
        none("files left after gc", len(left)),
    ]


def _started(root: Path, log: Log, seed: int, end: float, locks: bool) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if not locks:  # as a network file system that only says that it locks
                fcntl.flock = fcntl.lockf = _pretend
            _one(Store(root), log, random.Random(seed), end)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def _pretend(*_args: object) -> None:
    """A lock that is given to everybody."""


def _one(store: Store, log: Log, random_: random.Random, end: float) -> None:
    """One process's work: whatever comes."""
    work: list[tuple[int, Callable[[Store, Log, random.Random], None]]] = [
        (30, _compute), (30, _read), (8, _name), (6, _remember), (6, _list), (4, _remove), (2, _sweep),
    ]  # fmt: skip
    weights, each = [weight for weight, _ in work], [do for _, do in work]
    while time.monotonic() < end:
        do = random_.choices(each, weights)[0]
        try:
            do(store, log, random_)
        except Exception:
            traceback.print_exc()
            log.say("error", do.__name__)


def _compute(store: Store, log: Log, random_: random.Random) -> None:
    """A recipe, as a step computes it; the marker beside the store shows two at once."""
    number = random_.choice(PASSING) if random_.random() < 0.1 else random_.randrange(KEPT)
    key = digest(recipe(number))
    if store.find(key) is not None:
        return
    marker = log.file.with_name(f"in-{key}")
    with store.partial(key):
        if store.find(key) is not None:
            return
        _alone(marker, log, key)
        if number < KEPT:
            log.say("begin", key)
        time.sleep(random_.uniform(0, 0.02))
        put(store, number)
        if number < KEPT:
            log.say("end", key)
        marker.unlink()
    log.say("computed")


def _alone(marker: Path, log: Log, key: str) -> None:
    """Nobody else may be in it; a marker of the dead is taken away."""
    owner = me()
    if marker.exists():
        pid, born = marker.read_text(encoding="utf-8").split()
        if lives(int(pid), born, owner.machine, owner.boot):
            log.say("overlap", key)
    marker.write_text(f"{owner.pid} {owner.born}", encoding="utf-8")


def _any(store: Store, random_: random.Random) -> Artifact | None:
    ids = store.ids("labels")
    return store.open(*random_.choice(ids)) if ids else None


def _read(store: Store, log: Log, random_: random.Random) -> None:
    """Every byte of an artifact; of one that is being removed nothing may be left to read."""
    try:
        found = _any(store, random_)
        if found is None:
            return
        number = int(found.about["n"])
        try:
            store.check(found)
            same = (found.path / "rows.jsonl").read_bytes() == payload(number)
        except (Corrupt, FileNotFoundError):
            if number in PASSING:  # removed while it was read
                return
            raise
        log.say("read" if same else "wrong")
    except NotFound:
        return


def _name(store: Store, log: Log, random_: random.Random) -> None:
    name = f"name-{random_.randrange(6)}"
    found = store.find(digest(recipe(random_.randrange(KEPT))))
    if found is not None:
        store.name(name, found)
        log.say("named")
    for each, target in store.names().items():
        if store.resolve(each).id != target.partition("/")[2] and store.names()[each] == target:
            log.say("wrong", each)


def _remember(store: Store, log: Log, random_: random.Random) -> None:
    cache, number = TextCache(store, "translations", "key"), random_.randrange(50)
    cache.add({digest(number): str(number)})
    if any(digest(int(text)) != key for key, text in cache.read().items()):
        log.say("wrong", "cache")


def _list(store: Store, log: Log, random_: random.Random) -> None:  # noqa: ARG001
    for line in listing(store):
        if line.bytes != len(payload(int(line.about["n"]))):
            log.say("wrong", line.id)
    log.say("listed")


def _remove(store: Store, log: Log, random_: random.Random) -> None:
    found = store.find(digest(recipe(random_.choice(PASSING))))
    if found is not None:
        try:
            garbage.remove(store, found.kind, found.id)
        except NotFound:  # another was faster
            return
        log.say("removed")


def _sweep(store: Store, log: Log, random_: random.Random) -> None:  # noqa: ARG001
    unneeded = garbage.garbage(store, 3600.0)  # nothing is that old
    if unneeded:
        log.say("wrong", unneeded[0].id)
    garbage.sweep(store, unneeded, garbage.left_behind(store))
    log.say("swept")
