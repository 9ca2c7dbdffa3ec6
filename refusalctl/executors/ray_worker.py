"""What runs on a Ray worker: a workbench with the model in memory, which computes goals by their names.

A worker proves first that it sees the driver's store, and would ask the same recipes; results go through the store, and
only names, ids and notes through Ray.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.errors import RefusalctlError
from refusalctl.json_types import JsonObject
from refusalctl.progress import Advance, Silent
from refusalctl.settings import Machine, Settings
from refusalctl.steps.goals import goals_of
from refusalctl.steps.run_goals import Failure, run_goal, stops_all
from refusalctl.steps.step import Planned, Workbench
from refusalctl.store.event_log import EventLog
from refusalctl.store.store import Store
from refusalctl.version import __version__

OFTEN = 0.5  # seconds between two words on one task's progress
PATIENCE = 30.0  # seconds that a network file system may take to show a new file


@dataclass(frozen=True)
class WorkOrder:
    """What a worker needs to know. Paths are the driver's: the store and `folder`, where relative paths begin, are on a
    file system that all machines share. `marker` is a file in the store that proves it."""

    store: str
    folder: str
    marker: str
    settings: JsonObject
    machine: JsonObject
    judge_url: str | None
    run: str | None
    recipe: JsonObject  # what of the model's and the judge's side enters recipes
    version: str = __version__
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Bar(NamedTuple):
    """How far one task of one worker is."""

    who: str
    number: int
    what: str
    total: int
    done: int
    is_over: bool


@dataclass(frozen=True)
class GoalResult:
    """What became of a goal. `keys`: recipes whose results are now in the store; `stops`: all others would fail too."""

    goal: str
    ids: list[str]
    failure: Failure | None
    stops: bool
    notes: list[str]
    plan: list[Planned]
    keys: list[str]
    fruitless: dict[str, tuple[str, str | None]]


class Board:
    """Where workers write how far they are, and the driver reads it. Lives beside the driver."""

    def __init__(self) -> None:
        self.bars: dict[tuple[str, int], Bar] = {}
        self.said: list[str] = []

    def put(self, bar: Bar) -> None:
        self.bars[bar.who, bar.number] = bar

    def say(self, text: str) -> None:
        self.said.append(text)

    def take(self) -> tuple[list[Bar], list[str]]:
        """What is new since the last look."""
        bars, said = list(self.bars.values()), self.said
        self.bars, self.said = {}, []
        return bars, said


class Reporting(Silent):
    """A worker's progress, told to the board without waiting for an answer."""

    def __init__(self, board: Any, who: str) -> None:
        self.board, self.who, self._numbers = board, who, count()

    def say(self, text: str) -> None:
        self.board.say.remote(f"{self.who}: {text}")

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:
        number, done, told = next(self._numbers), 0, 0.0

        def put(*, is_over: bool = False) -> None:
            self.board.put.remote(Bar(self.who, number, what, total, done, is_over))

        def advance(n: int = 1) -> None:
            nonlocal done, told
            done += n
            if time.monotonic() - told > OFTEN:
                told = time.monotonic()
                put()

        put()
        try:
            yield advance
        finally:
            put(is_over=True)


class Worker:
    """One process on some machine. The model is loaded by the first goal that needs it, and stays."""

    def __init__(self, order: WorkOrder, board: Any) -> None:
        os.environ.update(order.environment)
        self.who = f"{socket.gethostname()}/{os.getpid()}"
        self.order = order
        progress = Reporting(board, self.who)
        machine, settings = Machine.from_json(order.machine), Settings.from_json(order.settings)
        self.bench = Workbench(Store(Path(order.store), progress.say), machine, settings, progress)
        self.bench.judge_url = order.judge_url
        if order.run is not None:
            self.bench.events = EventLog(self.bench.store, order.run, f"{socket.gethostname()}-{os.getpid()}")

    def prove(self) -> str | None:
        """Why this worker cannot work for the driver, None where it can."""
        order = self.order
        if __version__ != order.version:
            return f"{self.who} has refusalctl {__version__}, the driver {order.version}"
        if not _appears(Path(order.marker)):
            return (
                f"{self.who} does not see the store {order.store}: it must lie on a file system that all machines share"
            )
        if not Path(order.folder).is_dir():
            return f"{self.who} has no folder {order.folder}, in which the driver runs"
        os.chdir(order.folder)  # relative paths of models and templates mean the same as there
        try:
            here = recipe_of(self.bench)
        except RefusalctlError as error:
            return f"{self.who}: {error}"
        for name, value in order.recipe.items():
            if here.get(name) != value:
                asked = f"would ask for {name} {here.get(name)!r}, the driver for {value!r}"
                return f"{self.who} {asked}: results would not be the same"
        return None

    def run(self, name: str) -> GoalResult:
        """Compute one goal. What fails is told in the result."""
        bench = self.bench
        bench.plan.clear()
        bench.notes.clear()
        goal = next(goal for goal in goals_of(bench.settings) if goal.name == name)
        ids: list[str] = []
        failure, stops = None, False
        try:
            ids = run_goal(bench, goal)
        except Exception as error:
            failure, stops = Failure.of(name, error), stops_all(error, bench)
        keys = [line.key for line in bench.plan if not line.done and bench.store.find(line.key) is not None]
        lines = [Planned(p.step, p.about, p.done, p.id, p.key) for p in bench.plan]
        return GoalResult(name, ids, failure, stops, list(bench.notes), lines, keys, dict(bench.fruitless))


def recipe_of(bench: Workbench) -> JsonObject:
    """What of this machine's side enters recipes, by name."""
    return bench.model_key() | {"judge": bench.judge(bench.settings.answers.judge).digest}


def _appears(file: Path) -> bool:
    """Whether a file is there, or comes while one waits for the network."""
    until = time.monotonic() + PATIENCE
    while not file.is_file():
        if time.monotonic() > until or not file.parent.parent.is_dir():
            return False
        time.sleep(1)
    return True
