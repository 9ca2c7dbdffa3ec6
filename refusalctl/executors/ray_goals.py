"""Goals on the workers of a Ray cluster. Ray places workers, starts them where there is room, and tells who was lost.

Each worker is an actor that keeps the model in memory; the driver gives it the next goal whose needs are done. All that
was computed is in the store, so a driver that dies is simply started again. A goal whose worker was lost is given to
another one, and a new worker is asked for.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from refusalctl.errors import BadInput, StoreError
from refusalctl.executors.ray_worker import Bar, Board, GoalResult, Worker, WorkOrder, recipe_of
from refusalctl.progress import Advance, Progress, say
from refusalctl.steps.goals import Goal, Loads
from refusalctl.steps.run_goals import Failure, Outcome
from refusalctl.steps.step import Workbench
from refusalctl.store.event_log import EventLog

TICK = 0.5  # seconds between two looks at the board
STARTING = "a worker that was starting"
TRIES = 3  # workers that a goal may lose before it counts as failed
WAIT = 60.0  # seconds without any worker after which that is told
SHOW = 120.0  # seconds that a network file system may take to show what a worker wrote
OBJECTS = 100 << 20  # bytes of Ray's own object store, where one is started here: only names pass through it
CARRIED = ("REFUSALCTL_", "HF_", "OPENAI_", "DEEPL_", "TRANSFORMERS_", "TOKENIZERS_")  # variables that workers get


@dataclass(frozen=True)
class RayWorkers:
    """How many workers, and what each gets. None: as many as fit; a GPU where the cluster has some, and the cores
    beside it, or all of a machine's without GPUs."""

    n: int | None = None
    cpus: float | None = None
    gpus: float | None = None

    @classmethod
    def of(cls, n: int | None, per_worker: str | None) -> RayWorkers:
        """From `cpus=4,gpus=1`. Raises `BadInput`."""
        given: dict[str, float] = {}
        for part in (per_worker or "").split(",") if per_worker else ():
            name, _, value = part.strip().partition("=")
            try:
                given[name] = float(value)
            except ValueError:
                given[name] = -1.0
            if name not in ("cpus", "gpus") or not (0 <= given[name] < math.inf):  # also what is no number
                raise BadInput(f"a worker cannot be given {part.strip()!r}", hint="expected such as cpus=4,gpus=1")
        return cls(n, given.get("cpus"), given.get("gpus"))

    def resolved(self, nodes: Sequence[dict[str, float]], n_goals: int) -> RayWorkers:
        """Numbers for a cluster of these nodes (`CPU` and `GPU` of each). Raises `BadInput` where no node has room."""
        gpus = self.gpus if self.gpus is not None else float(any(node.get("GPU", 0) >= 1 for node in nodes))
        rooms = [node for node in nodes if node.get("GPU", 0) >= gpus and node.get("CPU", 0) > 0]
        least = min((node["CPU"] // (node["GPU"] // gpus if gpus else 1) for node in rooms), default=1.0)
        cpus = self.cpus if self.cpus is not None else max(1.0, least)
        places = 0
        for node in rooms:
            by_cpu = node["CPU"] // cpus if cpus else n_goals
            places += int(min(by_cpu, node.get("GPU", 0) // gpus if gpus else by_cpu))
        if not places and self.n is None:
            raise BadInput(
                f"no machine of the Ray cluster has room for a worker of {cpus:g} CPUs and {gpus:g} GPUs",
                hint="ask for less with --per-worker, or give --workers to wait for machines that join",
            )
        return RayWorkers(self.n if self.n is not None else max(1, min(places, n_goals)), cpus, gpus)


def require_ray() -> None:
    """Raises `BadInput` where Ray is not installed. It is not imported."""
    if importlib.util.find_spec("ray") is None:
        raise BadInput("--executor ray needs Ray, which is not installed", hint="pip install 'refusalctl[ray]'")


def run_on_ray(
    bench: Workbench,
    goals: Sequence[Goal],
    workers: RayWorkers,
    *,
    keep_going: bool = True,
    outcome: Outcome | None = None,
) -> Outcome:
    """All goals on a cluster: the one of RAY_ADDRESS, one that runs on this machine, or one that is started here.

    Raises `BadInput` where a worker does not see the store or would ask other recipes. Failures are as in `run_goals`,
    and so is `outcome`.
    """
    require_ray()
    with _cluster(), bench.store.draft() as folder:
        marker = folder / "marker"
        marker.write_bytes(b"this store is shared")
        order = WorkOrder(
            store=str(bench.store.root.absolute()),
            folder=os.getcwd(),  # noqa: PTH109 - a text
            marker=str(marker.absolute()),
            settings=bench.settings.to_json(),
            machine=bench.machine.to_json(),
            judge_url=bench.judge_url,
            run=bench.events.run if isinstance(bench.events, EventLog) else None,
            recipe=recipe_of(bench),
            environment={k: v for k, v in os.environ.items() if k.startswith(CARRIED)},
        )
        crew = Crew(bench, goals, order, Outcome() if outcome is None else outcome)
        try:
            return crew.run(workers, keep_going=keep_going)
        finally:
            crew.dismiss()


@contextmanager
def _cluster() -> Iterator[None]:
    """Ray, joined or started. Its own handling of SIGTERM is put back to ours: drafts must be removed."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unless somebody asks for it
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError as error:
        asked = os.environ.get("RAY_ADDRESS")
        if asked:
            raise BadInput(f"there is no Ray cluster at RAY_ADDRESS={asked}", hint="see docs/clusters.md") from error
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECTS, **quiet)
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


class Hand:
    """A worker as the driver sees it, and what it has in memory."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.loads: Loads | None = None


class Crew:
    """The workers of one run, and which goal each has."""

    def __init__(self, bench: Workbench, goals: Sequence[Goal], order: WorkOrder, outcome: Outcome) -> None:
        self.bench, self.order, self.outcome = bench, order, outcome
        self.names, self.todo = {goal.name for goal in goals}, list(goals)
        self.lost = Counter[str]()
        self.starting: dict[Any, Hand] = {}
        self.running: dict[Any, tuple[Hand, Goal]] = {}
        self.idle: list[Hand] = []
        self.keys: list[str] = []
        self.board: Any = None
        self._asked = RayWorkers()
        self._alone = time.monotonic()

    def run(self, workers: RayWorkers, *, keep_going: bool) -> Outcome:
        """Until no goal is left."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._asked = workers.resolved(nodes, len(self.todo))
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        self.board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        for _ in range(self._asked.n or 1):
            self._hire()
        with Bars(self.bench.progress, len(self.todo)) as bars:
            while self.todo or self.running:
                self._assign()
                waiting = [*self.running, *self.starting]
                ready, _ = ray.wait(waiting, num_returns=1, timeout=TICK) if waiting else ([], [])
                for ref in ready:
                    self._welcome(ref) if ref in self.starting else self._take(ref)
                bars.show(*_taken(self.board), done=self.outcome.n)
                if self.outcome.failed and not keep_going:
                    self.outcome.check()
        self._await_store()
        return self.outcome

    def dismiss(self) -> None:
        """End every worker: what it was at is kept as far as its rows are."""
        import ray

        hands = [*self.starting.values(), *(hand for hand, _ in self.running.values()), *self.idle]
        for actor in [*(hand.actor for hand in hands), *([self.board] if self.board is not None else [])]:
            ray.kill(actor)

    def _hire(self) -> None:
        """Ask Ray for another worker; it may take until there is room."""
        import ray

        asked = self._asked
        options = {"num_cpus": asked.cpus, "num_gpus": asked.gpus, "max_restarts": 0, "max_task_retries": 0}
        hand = Hand(ray.remote(Worker).options(**options).remote(self.order, self.board))
        self.starting[hand.actor.prove.remote()] = hand

    def _assign(self) -> None:
        """Give every idle worker a goal that can be begun, rather one that wants in memory what is there."""
        for goal in list(self.todo):
            blocked = self.outcome.blocks(goal)
            if blocked is not None:
                self.todo.remove(goal)
                self.outcome.skipped[goal.name] = blocked
                self.bench.events.write("skipped", "goal", goal.name, message=f"it needs {blocked}")
        if self.idle or self.running:
            self._alone = time.monotonic()
        elif time.monotonic() - self._alone > WAIT:
            self._alone = float("inf")  # once
            wanted = f"they start, or wait for {self._asked.cpus:g} CPUs and {self._asked.gpus:g} GPUs each"
            say(self.bench.progress, f"no worker is ready yet: {wanted}")
        for hand in list(self.idle):
            ready = [goal for goal in self.todo if not any(self._waits_for(need) for need in goal.needs)]
            if not ready:
                return
            goal = next((goal for goal in ready if goal.loads == hand.loads), ready[0])
            self.todo.remove(goal)
            self.idle.remove(hand)
            hand.loads = goal.loads
            self.running[hand.actor.run.remote(goal.name)] = (hand, goal)

    def _waits_for(self, need: str) -> bool:
        """What is not among the goals of this run is computed by whoever lacks it."""
        return need in self.names and need not in self.outcome.done

    def _welcome(self, ref: Any) -> None:
        import ray

        hand = self.starting.pop(ref)
        try:
            problem = ray.get(ref)
        except ray.exceptions.RayTaskError:
            raise  # a bug of ours, not a worker that was lost
        except ray.exceptions.RayError as error:
            self._count(STARTING, error)
            self._hire()
            return
        if problem is not None:
            ray.kill(hand.actor)
            raise BadInput(problem, hint="see docs/clusters.md")
        self.lost.pop(STARTING, None)
        self.idle.append(hand)

    def _take(self, ref: Any) -> None:
        import ray

        hand, goal = self.running.pop(ref)
        try:
            result: GoalResult = ray.get(ref)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:  # also one that was ended for want of memory
            self.bench.events.write("lost", "goal", goal.name, error=type(error).__name__)
            ray.kill(hand.actor)  # one that is only out of reach must not hold its GPU; who else does the goal waits
            if self._count(goal.name, error):
                self.todo.insert(0, goal)
            self._hire()
            return
        self.idle.append(hand)
        self._record(result)

    def _count(self, name: str, error: Exception) -> bool:
        """Whether to try again after a worker was lost. Raises or records a failure where that happens too often."""
        self.lost[name] += 1
        if self.lost[name] < TRIES:
            return True
        why = f"{TRIES} workers were lost over it ({type(error).__name__}): see Ray's logs, often memory is short"
        if name not in self.names:
            raise BadInput(f"{name}: {why}", hint="see docs/clusters.md")
        self.bench.events.write("failed", "goal", name, error=type(error).__name__, message=why)
        self.outcome.failed.append(Failure(name, type(error).__name__, why))
        return False

    def _record(self, result: GoalResult) -> None:
        bench = self.bench
        for note in result.notes:
            bench.note(note)
        known = {line.key for line in bench.plan}
        bench.plan += [line for line in result.plan if line.key not in known]
        bench.fruitless.update(result.fruitless)
        self.keys += result.keys
        if result.failure is None:
            self.outcome.done[result.goal] = result.ids
            return
        self.outcome.failed.append(result.failure)
        if result.stops:
            self.outcome.check()

    def _await_store(self) -> None:
        """Until this machine sees what the workers wrote: network file systems remember what was not there."""
        until = time.monotonic() + SHOW
        for key in dict.fromkeys(self.keys):
            while self.bench.store.find(key) is None:
                if time.monotonic() > until:
                    raise StoreError(
                        f"a worker wrote results that are not to be seen in {self.bench.store.root} after {SHOW:.0f} s",
                        hint="give the same command again; if it stays so, the folder is not shared",
                    )
                time.sleep(TICK)


def _taken(board: Any) -> tuple[list[Bar], list[str]]:
    """What the board has; nothing where its machine was lost: progress is no reason to stop."""
    import ray

    try:
        bars, said = ray.get(board.take.remote())
    except ray.exceptions.RayError:
        return [], []
    return bars, said


class Bars:
    """All workers' progress on the driver's display."""

    def __init__(self, progress: Progress, n_goals: int) -> None:
        self.progress, self.n_goals = progress, n_goals
        self._stack = ExitStack()
        self._open: dict[tuple[str, int], tuple[ExitStack, Advance, int]] = {}
        self._done = 0

    def __enter__(self) -> Bars:
        self._advance = self._stack.enter_context(self.progress.task("goals", self.n_goals))
        return self

    def __exit__(self, *_: object) -> None:
        for stack, _advance, _done in self._open.values():
            stack.close()
        self._stack.close()

    def show(self, bars: Sequence[Bar], said: Sequence[str], *, done: int) -> None:
        for text in said:
            say(self.progress, text)
        self._advance(done - self._done)
        self._done = done
        for bar in bars:
            key = bar.who, bar.number
            if key not in self._open:
                stack = ExitStack()
                advance = stack.enter_context(self.progress.task(f"{bar.who} {bar.what}", bar.total))
                self._open[key] = stack, advance, 0
            stack, advance, before = self._open[key]
            advance(bar.done - before)
            self._open[key] = stack, advance, bar.done
            if bar.is_over:
                stack.close()
                del self._open[key]
