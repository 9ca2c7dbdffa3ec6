"""How long many models in many languages take on 8, 64 and 512 GPUs, and what limits it: a discrete simulation.

The goals and what each needs are those of the code (`steps/goals.py`), and workers take them as `--executor ray` gives
them out: the first goal in the list whose needs are done, rather one that wants in memory what is there. A run is one
model; `--at-once` runs share the GPUs evenly, the others come after. Times vary (log-normal), and workers get lost:
that costs what they were at and another load of the model.

Times are arguments. By default a 7B model in bfloat16 on an H100: `--answers` is arithmetic on a rate that was measured
(docs/speed.md), all others are assumed. Nothing here is a measurement of a cluster.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.command import add_out, comma_list, parser, write_figures
from refusalctl.settings import Settings
from refusalctl.steps.goals import Goal, goals_of

# seconds of one goal; what is measured and what is assumed stands in the help
SECONDS = {
    "select": (90.0, "assumed: activations, 320 short answers, 126 candidates, per language"),
    "answers": (60.0, "572 prompts x 512 tokens at the measured 4,900 tokens/s: an upper bound"),
    "labels": (30.0, "assumed: 572 answers read by an 8B judge"),
    "draws": (60.0, "assumed: 39 control directions, placed"),
    "controls": (20.0, "assumed: 39 draws at matched damage on 16 + 16 prompts"),
    "comprehension": (15.0, "assumed"),
    "load": (60.0, "assumed: a model or a judge into a GPU's memory, from a shared file system"),
    "begin": (30.0, "assumed: the driver's plan before the first goal"),
    "end": (60.0, "assumed: the driver puts the matrix together"),
    "overhead": (0.3, "assumed: store, locks and Ray, per goal"),
}


@dataclass
class Run:
    """One model's goals on some workers."""

    seconds: dict[str, float]
    noise: float
    loss: float  # workers lost per hour of work
    rng: random.Random
    busy: float = 0.0
    loads: int = 0
    lost: int = 0

    def takes(self, kind: str) -> float:
        """One draw of a goal's time; its mean is the time that was given."""
        return self.seconds[kind] * math.exp(self.rng.gauss(-(self.noise**2) / 2, self.noise))

    def on(self, goals: Sequence[Goal], workers: int) -> float:
        """Seconds from the driver's begin to its end."""
        todo, done, clock = list(goals), set[str](), self.seconds["begin"]
        known = {goal.name for goal in goals}
        idle: list[str | None] = [None] * min(workers, len(todo))
        running: list[tuple[float, int, Goal, str | None]] = []
        number = 0
        while todo or running:
            for loaded in list(idle):
                ready = [goal for goal in todo if all(need in done for need in goal.needs if need in known)]
                if not ready:
                    break
                goal = next((each for each in ready if each.loads == loaded), ready[0])
                todo.remove(goal)
                idle.remove(loaded)
                spent, now = self._spent(goal, loaded)
                number += 1
                heapq.heappush(running, (clock + spent, number, goal, now))
            clock, _number, goal, now = heapq.heappop(running)
            if now is None:
                todo.insert(0, goal)  # its worker was lost
            else:
                done.add(goal.name)
            idle.append(now)
        return clock + self.seconds["end"]

    def _spent(self, goal: Goal, loaded: str | None) -> tuple[float, str | None]:
        """Seconds until a worker is free again, and what it has in memory then; None: it was lost, and replaced."""
        kind = goal.name.partition(":")[0]
        spent = self.takes(kind) + self.seconds["overhead"]
        if goal.loads != loaded:
            spent += self.takes("load")
            self.loads += 1
        if self.rng.random() < 1 - math.exp(-self.loss * spent / 3600):
            spent *= self.rng.random()
            self.busy += spent
            self.lost += 1
            return spent, None
        self.busy += spent
        return spent, goal.loads


def critical(goals: Sequence[Goal], seconds: dict[str, float]) -> float:
    """Seconds of the longest chain of goals that need each other, driver included: no number of GPUs is faster."""
    ends: dict[str, float] = defaultdict(float)
    for goal in goals:
        start = max((ends[need] for need in goal.needs), default=0.0)
        ends[goal.name] = start + seconds[goal.name.partition(":")[0]]
    return seconds["begin"] + 2 * seconds["load"] + max(ends.values()) + seconds["end"]


def simulate(
    models: int, gpus: int, at_once: int, goals: Sequence[Goal], given: argparse.Namespace
) -> dict[str, float]:
    """Hours, share of the GPUs' time that is work, and what was lost."""
    seconds = {name: getattr(given, name) for name in SECONDS}
    at_once = min(models, gpus, at_once)
    ends, busy, lost, loads = [0.0] * at_once, 0.0, 0, 0
    for index in range(models):
        run = Run(seconds, given.noise, given.loss, random.Random(f"{given.seed} {gpus} {index}"))
        place = ends.index(min(ends))
        share = gpus // at_once + (place < gpus % at_once)
        ends[place] += run.on(goals, share)
        busy, lost, loads = busy + run.busy, lost + run.lost, loads + run.loads
    hours = max(ends) / 3600
    return {
        "gpus": gpus,
        "hours": hours,
        "busy": busy / (gpus * max(ends)),
        "gpu_hours": busy / 3600,
        "bound_work": busy / 3600 / gpus,
        "bound_chain": math.ceil(models / at_once) * critical(goals, seconds) / 3600,
        "loads": loads,
        "lost": lost,
    }


def main(arguments: list[str] | None = None) -> None:
    read = parser(__doc__)
    read.add_argument("--models", type=int, default=10)
    read.add_argument("--langs", type=int, default=17, help="languages; each is a source and a target")
    read.add_argument("--gpus", type=comma_list, default=["8", "64", "512"])
    read.add_argument("--at-once", type=comma_list, default=["1", "10", "10"], help="models at a time, per --gpus")
    read.add_argument("--noise", type=float, default=0.3, help="standard deviation of log time (assumed)")
    read.add_argument("--loss", type=float, default=0.02, help="workers lost per hour of work (assumed)")
    read.add_argument("--seed", type=int, default=0)
    for name, (default, told) in SECONDS.items():
        read.add_argument(f"--{name}", type=float, default=default, help=f"seconds (default {default:g}; {told})")
    add_out(read)
    given = read.parse_args(arguments)
    langs = tuple(f"qa{chr(ord('a') + i)}" for i in range(given.langs))
    goals = goals_of(Settings.of(sources=langs, targets=langs, induce=False, controls=True), langs)
    goals = [goal for goal in goals if ":affine:" not in goal.name]  # few cells need it, and a plan knows none
    kinds = Counter(goal.name.partition(":")[0] for goal in goals)
    print(f"{given.models} models x {len(goals)} goals: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}")
    pairs = zip(given.gpus, given.at_once, strict=True)
    rows = [simulate(given.models, int(gpus), int(at_once), goals, given) for gpus, at_once in pairs]
    print("GPUs  hours  busy  GPU hours  hours by work alone  hours by the longest chains  loads  lost")
    for row in rows:
        print(
            f"{row['gpus']:4.0f} {row['hours']:6.2f} {row['busy']:5.0%} {row['gpu_hours']:10.1f} "
            f"{row['bound_work']:20.2f} {row['bound_chain']:28.2f} {row['loads']:6.0f} {row['lost']:5.0f}"
        )
    write_figures(given.out, {"goals": kinds, "rows": rows, "seconds": {n: getattr(given, n) for n in SECONDS}})


if __name__ == "__main__":
    main()
