"""Goals on one and two Ray nodes: the ids of a run in one process, whoever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import refusalctl as rc
from refusalctl.errors import BadInput
from refusalctl.executors.ray_goals import Crew, RayWorkers
from refusalctl.records.event import Event
from refusalctl.store.dead import sweep_dead
from refusalctl.store.event_log import EventLog, read_run, runs
from refusalctl.store.store import Store

ASKED: dict[str, Any] = {
    "model": "organism:shared", "data": "organism:shared", "sources": ["qaa"], "targets": ["qab"],
    "n_train": 12, "n_val": 6, "n_test": 5, "max_new_tokens": 6, "layers": [2], "controls": False, "induce": False,
    "device": "cpu",
}  # fmt: skip
PATIENT = {  # a machine that is busy with something else is slow, not dead
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_health_check_initial_delay_ms": "120000",
    "RAY_health_check_timeout_ms": "120000",
}
OBJECTS = 80 << 20  # the least that Ray takes
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, and of what it imports
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of one node with one CPU, to which tests add others."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": OBJECTS, "include_dashboard": False},
    )
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> rc.results.Transfer:
    return rc.Study(**ASKED, store=tmp_path_factory.mktemp("whole")).transfer()


def study(store: Path) -> rc.Study:
    made = rc.Study(**ASKED, store=store)
    made.bench.events = EventLog(made.store)
    return made


def events(store: Path) -> list[Event]:
    kept = Store(store)
    return [event for run in runs(kept) for event in read_run(kept, run).events]


def computed(store: Path) -> list[str]:
    """Recipes that were computed, as often as that happened."""
    return [f"{e.name} {e.about}" for e in events(store) if (e.scope, e.event) == ("step", "ended")]


def wait_for(store: Path, n: int, what: str = "ended", by: int = 1, seconds: float = 600.0) -> None:
    """Until `n` goals are done, or begun, by as many workers as `by` at least."""
    until = time.monotonic() + seconds
    while True:
        found = [e.pid for e in events(store) if (e.scope, e.event) == ("goal", what)]
        if len(found) >= n and len(set(found)) >= by:
            return
        assert time.monotonic() < until, "the workers did nothing"
        time.sleep(0.1)


def test_two_nodes_give_the_ids_of_one_process_and_go_on_when_one_of_them_is_lost(
    cluster: Any, tmp_path: Path, whole: rc.results.Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = cluster.add_node(num_cpus=1, object_store_memory=OBJECTS)
    running = study(tmp_path)
    together: list[bool] = []
    assign = Crew._assign

    def assign_to_both(crew: Crew) -> None:
        """One that starts late would find nothing to do, and nothing would be lost with it."""
        if together or len(crew.idle) == 2:
            together.append(True)
            assign(crew)

    monkeypatch.setattr(Crew, "_assign", assign_to_both)

    def lose() -> None:
        wait_for(tmp_path, 2, "began", by=2)
        cluster.remove_node(second, allow_graceful=False)

    losing = threading.Thread(target=lose)
    losing.start()
    outcome = running.work(ray=RayWorkers(2, 1, 0))
    losing.join()
    outcome.check()
    assert set(outcome.done) == {goal.name for goal in running.goals()}
    assert running.transfer().id == whole.id
    told = events(tmp_path)
    assert ("goal", "lost") in {(e.scope, e.event) for e in told}
    assert len({e.pid for e in told if e.scope == "step"}) > 2  # two workers, and the driver for the matrix
    assert [e.name for e in told if e.scope == "step" and e.event == "began" and e.pid == os.getpid()] == ["transfer"]
    assert len(set(computed(tmp_path))) == len(computed(tmp_path))  # nothing twice
    assert set(Store(tmp_path).ids()) == set(whole.store.ids())
    sweep_dead(tmp_path)  # as the next start does: the worker that was lost may have left a draft
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_driver_that_was_killed_is_started_again_and_computes_only_the_rest(
    cluster: Any, tmp_path: Path, whole: rc.results.Transfer
) -> None:
    command = [
        sys.executable, "-m", "refusalctl", "transfer", "--executor", "ray", "--per-worker", "cpus=1",
        "--store", str(tmp_path), "--model", "organism:shared", "--data", "organism:shared", "--sources", "qaa",
        "--targets", "qab", "--n-train", "12", "--n-val", "6", "--n-test", "5", "--max-new-tokens", "6",
        "--layers", "2", "--no-controls", "--no-induce", "--device", "cpu",
    ]  # fmt: skip
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(tmp_path, 2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert second.stdout.strip() == whole.id
    assert len(set(computed(tmp_path))) == len(computed(tmp_path))


def test_a_worker_that_would_ask_other_recipes_is_refused(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refusalctl.executors.ray_goals.recipe_of", lambda _bench: {"dtype": "bfloat16"})
    with pytest.raises(BadInput, match="would ask for dtype 'float32', the driver for 'bfloat16'"):
        study(tmp_path).work(ray=RayWorkers(1, 1, 0))
    assert Store(tmp_path).ids() == []


@pytest.mark.parametrize(
    ("text", "asked"),
    [(None, (None, None)), ("cpus=4,gpus=1", (4, 1)), ("gpus=0.5", (None, 0.5))],
)
def test_what_a_worker_gets_is_read(text: str | None, asked: tuple[float | None, float | None]) -> None:
    assert RayWorkers.of(2, text) == RayWorkers(2, *asked)


@pytest.mark.parametrize("text", ["cpus", "cpus=x", "tpus=1", "gpus=-1", "cpus=nan", "gpus=inf", "cpus=-inf"])
def test_what_a_worker_cannot_be_given_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="a worker cannot be given"):
        RayWorkers.of(None, text)


def test_workers_fill_the_cluster() -> None:
    plain, big = {"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}
    assert RayWorkers().resolved([plain, plain], 100) == RayWorkers(
        2, 8, 0
    )  # all cores of a machine, as in one process
    assert RayWorkers().resolved([big, plain], 100) == RayWorkers(8, 8, 1)
    assert RayWorkers().resolved([big], 3) == RayWorkers(3, 8, 1)  # no more than goals
    assert RayWorkers(cpus=2, gpus=0).resolved([plain], 100) == RayWorkers(4, 2, 0)
    assert RayWorkers(gpus=0.5).resolved([{"CPU": 8.0, "GPU": 2.0}], 100) == RayWorkers(4, 2, 0.5)
    assert RayWorkers(20, 1, 1).resolved([], 100) == RayWorkers(20, 1, 1)  # for machines that will join
    with pytest.raises(BadInput, match="no machine of the Ray cluster has room for a worker of 16 CPUs and 0 GPUs"):
        RayWorkers(cpus=16).resolved([plain], 100)
