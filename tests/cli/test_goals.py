"""`run` and `transfer` in parts: what fails, what is listed, and what the log says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from refusalctl.cli import app as cli
from refusalctl.cli.log import summary
from refusalctl.errors import BadInput
from refusalctl.records.event import Event, EventName, Scope
from refusalctl.records.printed import ListedRun, LoggedRun, PrintedGoals
from refusalctl.steps import goals as steps
from refusalctl.steps.step import Workbench
from refusalctl.store.artifact import Artifact
from refusalctl.store.event_log import RunLog
from refusalctl.store.store import Store

ASKED = (
    "--model", "organism:shared", "--data", "organism:shared", "--sources", "qaa", "--targets", "qaa,qab",
    "--n-train", "12", "--n-val", "6", "--n-test", "5", "--max-new-tokens", "6", "--layers", "2", "--no-controls",
    "--no-induce", "--device", "cpu",
)  # fmt: skip
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refusalctl", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return run


def test_a_cell_that_fails_is_told_at_the_end_and_the_same_command_does_the_rest(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ("--store", str(tmp_path))
    real = steps.measure_comprehension

    def fails_in_qaa(bench: Workbench, lang: str) -> Artifact:
        if lang == "qaa" and not bench.dry_run:
            raise BadInput("the moon is full", hint="wait")
        return real(bench, lang)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "measure_comprehension", fails_in_qaa)
        code, out, err = call("transfer", *ASKED, *store)
    assert (code, out) == (1, "")
    assert "error: 1 of 24 goals failed: comprehension:qaa: the moon is full; wait; the other 23 are done" in err
    assert "Traceback" not in err
    kept = Store(tmp_path)
    assert not kept.ids("transfer")
    assert len(kept.ids("labels")) > 5  # what comes after it was done

    code, out, _ = call("artifacts", "log", *store, "--json")
    (told,) = msgspec.convert(json.loads(out), list[ListedRun])
    assert (told.name, told.state, told.failed, told.workers, code) == ("transfer", "failed", 1, 1, 0)
    assert told.computed == len(kept.ids())
    code, out, _ = call("artifacts", "log", "last", "--failed", *store, "--json")
    events = msgspec.convert(json.loads(out), LoggedRun).events
    assert [(e.scope, e.name, e.error) for e in events] == [
        ("goal", "comprehension:qaa", "BadInput"), ("run", "transfer", "GoalsFailed"),
    ]  # fmt: skip

    code, out, err = call("transfer", *ASKED, *store)
    assert code == 0, err
    assert len(out.split()) == 1
    shown = call("artifacts", "log", *store)[1].splitlines()
    assert len(shown) == 3
    assert shown[2].split()[2:4] == ["transfer", "ended"]
    assert shown[2].split()[5] == "2"  # the gate and the matrix
    assert call("artifacts", "verify", *store)[0] == 0


def test_fail_fast_stops_at_the_first(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(bench: Workbench, *_: Any, **__: Any) -> Sequence[Artifact]:
        raise BadInput("the moon is full")

    monkeypatch.setattr(steps, "extract_directions", fails)
    code, _, err = call("transfer", *ASKED, "--fail-fast", "--store", str(tmp_path))
    assert code == 1
    assert "error: the moon is full" in err
    assert Store(tmp_path).ids() == []


def test_what_failed_before_a_run_was_stopped_is_told(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(bench: Workbench, lang: str) -> Sequence[Artifact]:
        raise BadInput(f"the moon over {lang} is full") if lang == "qaa" else KeyboardInterrupt

    monkeypatch.setattr(steps, "extract_directions", fails)
    code, out, err = call("transfer", *ASKED, "--store", str(tmp_path))
    assert (code, out) == (130, "")
    assert "the moon over qaa is full" in err
    (told,) = msgspec.convert(
        json.loads(call("artifacts", "log", "--store", str(tmp_path), "--json")[1]), list[ListedRun]
    )
    assert (told.state, told.failed) == ("interrupted", 1)


def test_a_language_without_a_direction_has_nothing_left_to_compute(call: Call, tmp_path: Path) -> None:
    asked = ["organism:none" if each == "organism:shared" else each for each in ASKED]
    store = ("--store", str(tmp_path))
    assert call("transfer", *asked, *store)[0] == 0
    listed = call("transfer", *asked, "--list-goals", *store, "--json")[1]
    goals = msgspec.convert(json.loads(listed), PrintedGoals).goals
    assert [g.name for g in goals if not g.done] == []
    assert not next(g for g in goals if g.name == "answers:qaa:qab").ids
    assert "nothing to compute" in call("transfer", *asked, "--list-goals", *store)[1]


def test_a_goal_that_cannot_even_be_planned_is_listed_with_the_reason(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(bench: Workbench, lang: str) -> Artifact:
        raise BadInput("the moon is full")

    monkeypatch.setattr(steps, "measure_comprehension", fails)
    code, out, _ = call("transfer", *ASKED, "--list-goals", "--store", str(tmp_path))
    assert code == 0
    assert "fails: the moon is full" in out


def test_the_driver_of_workers_is_none_of_them() -> None:
    def event(pid: int, scope: Scope, name: EventName) -> Event:
        return Event("2026-11-27T15:00:00Z", "r", "host", pid, scope, name, "x")

    lines = [event(1, "run", "began"), event(2, "goal", "began"), event(3, "goal", "began"), event(1, "goal", "lost")]
    lines += [event(3, "goal", "ended"), event(1, "step", "ended"), event(1, "run", "ended")]
    assert summary(RunLog("r", lines, 0)).workers == 2


def test_parts_by_language_are_put_together_by_a_run_of_all(call: Call, tmp_path: Path) -> None:
    parts, whole = ("--store", str(tmp_path / "parts")), ("--store", str(tmp_path / "whole"))
    listed = call("transfer", *ASKED, "--list-goals", *parts, "--json")[1]
    goals = msgspec.convert(json.loads(listed), PrintedGoals).goals
    assert {g.lang for g in goals} == {"qaa", "qab"}
    assert not any(g.done for g in goals)
    assert not (tmp_path / "parts").exists()  # nothing was written

    code, out, err = call("transfer", *ASKED, "--only-langs", "qab", *parts, "--json")
    assert code == 0, err
    done = msgspec.convert(json.loads(out), PrintedGoals).goals
    assert {g.name for g in done} == {g.name for g in goals if g.lang == "qab"}
    assert not Store(tmp_path / "parts").ids("transfer")
    code, out, err = call("transfer", *ASKED, "--only", "answers:*:qaa", "--only", "labels:*", *parts)
    assert code == 0, err
    assert len(out.split()) == len(set(out.split())) > 3
    listed = call("transfer", *ASKED, "--list-goals", *parts, "--json")[1]
    left = [g.name for g in msgspec.convert(json.loads(listed), PrintedGoals).goals if not g.done]
    assert left == ["comprehension:qaa"]

    assert call("transfer", *ASKED, *parts)[1] == call("transfer", *ASKED, *whole)[1]


def test_wrong_calls_are_told(call: Call, tmp_path: Path) -> None:
    store = ("--store", str(tmp_path))
    for args, code, words in (
        (("--only", "nothing:*"), 1, "no goal fits 'nothing:*'; `--list-goals` shows them"),
        (("--only-langs", "de"), 1, "no goal is about 'de'"),
        (("--executor", "slurm"), 2, "there is no executor 'slurm'; choose process or ray"),
        (("--only", "select:*", "--name", "mine"), 2, "--name names a whole matrix"),
        (("--only-langs", ""), 1, "no language"),
        (("--workers", "3"), 2, "--workers and --per-worker need --executor ray"),
    ):
        found, out, err = call("transfer", *ASKED, *store, *args)
        assert (found, out) == (code, "")
        assert words in err
    assert call("artifacts", "log", "nothing", *store)[0] == 1


def test_without_ray_the_executor_says_how_to_get_it(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    code, _, err = call("transfer", *ASKED, "--executor", "ray", "--store", str(tmp_path))
    assert code == 1
    assert "pip install 'refusalctl[ray]'" in err


def test_a_dry_run_of_a_part_hides_no_error(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(bench: Workbench, lang: str) -> Artifact:
        raise BadInput(f"the moon over {lang} is full: {bench.dry_run}", hint="wait")

    monkeypatch.setattr(steps, "measure_comprehension", fails)
    code, out, err = call("transfer", *ASKED, "--store", str(tmp_path), "--dry-run", "--only", "comprehension:qaa")
    assert (code, out) == (1, "")
    assert "the moon over qaa is full: True" in err
