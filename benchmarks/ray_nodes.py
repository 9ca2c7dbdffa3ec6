"""The goals of a small matrix on one, two and four local Ray nodes beside one process: ids, and time.

    python -m benchmarks.ray_nodes [--nodes 1,2,4] [--folder FOLDER]

Then once more with a node that is removed in the middle, and with a driver that is killed and started again. Exit code
1 where an id differs or a recipe was computed twice. Nodes of one machine share its processor: on two cores two workers
compute at once, and no more. Needs the extra `ray`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import refusalctl as rc
from benchmarks import command
from benchmarks.torture.rows import Row, none, table
from refusalctl.executors.ray_goals import RayWorkers
from refusalctl.records.event import Event
from refusalctl.store.event_log import EventLog, read_run, runs
from refusalctl.store.store import Store

ASKED: dict[str, Any] = {
    "model": "organism:shared", "data": "organism:shared", "sources": ["qaa"], "targets": ["qaa", "qab"],
    "n_train": 16, "n_val": 8, "n_test": 24, "max_new_tokens": 12, "layers": [2, 3], "n_controls": 19,
    "control_candidates": 1, "control_completions": 0, "device": "cpu",
}  # fmt: skip
PATIENT = {  # a machine that is busy with something else is slow, not dead
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_worker_register_timeout_seconds": "600",
    "RAY_raylet_start_wait_time_s": "300", "RAY_health_check_initial_delay_ms": "120000",
    "RAY_health_check_timeout_ms": "120000", "OMP_NUM_THREADS": "1",
}  # fmt: skip
OBJECTS = 80 << 20  # bytes: the least that Ray takes
LATER = 3  # goals that are done before something is lost


@contextmanager
def cluster(nodes: int) -> Iterator[Any]:
    """Local nodes of one processor each; those beside the first are in `others`."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": OBJECTS, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.others = [made.add_node(num_cpus=1, object_store_memory=OBJECTS) for _ in range(nodes - 1)]
    os.environ["RAY_ADDRESS"] = made.address
    try:
        yield made
    finally:
        made.shutdown()


def study(root: Path) -> rc.Study:
    made = rc.Study(**ASKED, store=root)
    made.bench.events = EventLog(made.store)
    return made


def events(root: Path) -> list[Event]:
    store = Store(root)
    return [event for run in runs(store) for event in read_run(store, run).events]


def goals_done(root: Path) -> int:
    return sum((e.scope, e.event) == ("goal", "ended") for e in events(root))


class Found:
    """What one way of computing the matrix gave."""

    def __init__(self, what: str, root: Path, matrix: str, seconds: float, *, loses: bool = False) -> None:
        self.what, self.matrix, self.seconds, self.loses = what, matrix, seconds, loses
        self.ids, told = set(Store(root).ids()), events(root)
        self.workers = len({(e.host, e.pid) for e in told if (e.scope, e.event) == ("goal", "began")})
        self.computing = sum(e.seconds or 0 for e in told if (e.scope, e.event) == ("step", "ended"))
        computed = Counter(f"{e.name} {e.about}" for e in told if (e.scope, e.event) == ("step", "ended"))
        self.twice = sum(n - 1 for n in computed.values())
        self.again = [each for each in told if each.event == "lost"]
        self.thrown_away = _thrown_away(told)

    def rows(self, whole: Found) -> list[Row]:
        """What is promised: the same ids, nothing twice, and where a node was removed, that it had a goal in hand."""
        other = len(self.ids ^ whole.ids) + (self.matrix != whole.matrix)
        rows = [
            Row("seconds", self.seconds, "s"),
            Row("processes that computed goals", self.workers),
            Row("seconds inside steps, all processes", self.computing, "s"),
            Row("goals whose worker was lost", len(self.again), at_least=1 if self.loses else None),
            Row("seconds of work begun and not kept", self.thrown_away, "s"),
            none("ids that differ from one process", other),
            none("recipes computed twice", self.twice),
        ]
        return [row._replace(what=f"{self.what}: {row.what}") for row in rows]


def _thrown_away(told: list[Event]) -> float:
    """Seconds of steps that began and of which nothing more was heard, until somebody began them again."""
    seconds = 0.0
    open_: dict[tuple[str, int, str], Event] = {}
    for event in sorted(told, key=lambda each: each.time):
        if event.scope != "step":
            continue
        key = (event.host, event.pid, f"{event.name} {event.about}")
        if event.event == "began":
            lost = [other for other in open_ if other[2] == key[2]]
            seconds += sum((_when(event) - _when(open_.pop(other))).total_seconds() for other in lost)
            open_[key] = event
        else:
            open_.pop(key, None)
    return seconds


def _when(event: Event) -> datetime:
    return datetime.fromisoformat(event.time)


def timed(what: str, root: Path, work: Callable[[], str], *, loses: bool = False) -> Found:
    started = time.perf_counter()
    matrix = work()
    found = Found(what, root, matrix, time.perf_counter() - started, loses=loses)
    print(f"{what}: {found.seconds:.0f} s", file=sys.stderr, flush=True)
    return found


def on_nodes(root: Path, workers: int) -> str:
    """The matrix's id, its goals computed by as many workers."""
    made = study(root)
    made.work(ray=RayWorkers(workers, 1, 0)).check()
    return made.transfer().id


def here(root: Path) -> str:
    made = study(root)
    made.work().check()
    return made.transfer().id


def losing_a_node(root: Path, made: Any) -> str:
    """The second node goes after some goals."""

    def lose() -> None:
        while goals_done(root) < LATER:
            time.sleep(0.1)
        made.remove_node(made.others.pop(), allow_graceful=False)

    losing = threading.Thread(target=lose, daemon=True)  # a run that fails before that many goals ends all the same
    losing.start()
    matrix = on_nodes(root, 2)
    losing.join(timeout=60)
    return matrix


def killing_the_driver(root: Path) -> str:
    """It is killed after some goals, and the same command is given again."""
    line = [sys.executable, "-m", "benchmarks.ray_nodes", "--driver", str(root)]
    first = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while goals_done(root) < LATER and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    if first.wait() != -signal.SIGKILL:
        raise SystemExit(f"the driver ended with {first.returncode} before it could be killed")
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()[-1]


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--nodes", default="1,2,4")
    parser.add_argument("--folder", type=Path, help="where the stores are, for the time")
    parser.add_argument("--driver", type=Path, help="be the driver on a store, and print the matrix's id")
    command.add_out(parser)
    given = parser.parse_args()
    os.environ |= PATIENT
    if given.driver is not None:
        print(on_nodes(given.driver, 2))
        return
    with tempfile.TemporaryDirectory(dir=given.folder, ignore_cleanup_errors=True) as room:
        folder = Path(room)
        whole = timed("one process", folder / "whole", partial(here, folder / "whole"))
        ways = [whole]
        for n in map(int, command.comma_list(given.nodes)):
            root = folder / f"nodes-{n}"
            with cluster(n):
                ways.append(timed(f"{n} nodes", root, partial(on_nodes, root, n)))
        with cluster(2) as made:
            root = folder / "lost"
            ways.append(timed("2 nodes, one removed", root, partial(losing_a_node, root, made), loses=True))
        with cluster(2):
            ways.append(
                timed("2 nodes, the driver killed", folder / "killed", partial(killing_the_driver, folder / "killed"))
            )
        rows = [row for way in ways for row in way.rows(whole)]
    command.write_figures(given.out, [row._asdict() for row in rows])
    print(table([("ray", row) for row in rows]))
    sys.exit(0 if all(row.kept for row in rows) else 1)


if __name__ == "__main__":
    main()
