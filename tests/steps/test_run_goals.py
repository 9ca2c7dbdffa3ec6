"""Goals that fail, and those that go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from refusalctl.errors import BadInput, GoalsFailed, ModelError, StoreError
from refusalctl.records.event import Event
from refusalctl.settings import Machine
from refusalctl.steps.goals import Goal
from refusalctl.steps.run_goals import Outcome, chosen_goals, run_goals
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store.event_log import EventLog
from refusalctl.store.store import Artifact, Store


def write(job: Job) -> RunChecks:
    (job.out / "payload").write_text(str(job.params["name"]), encoding="utf-8")
    return {}


STEP = Step("write", 1, "prompts", write)


def goal(name: str, *needs: str, fails: BaseException | None = None) -> Goal:
    def work(bench: Workbench) -> Sequence[Artifact]:
        if fails is not None:
            raise fails
        return [bench.obtain(STEP, {"name": name}, {}, {"lang": name})]

    return Goal(name, name, needs, "model", work)


def full() -> StoreError:
    error = StoreError("cannot write to the store: the disk is full")
    error.__cause__ = OSError(28, "No space left on device")
    return error


def interrupt(_bench: Workbench) -> Sequence[Artifact]:
    raise KeyboardInterrupt


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    store = Store(tmp_path / "store")
    return Workbench(store, Machine("tiny"), events=EventLog(store))


def events(bench: Workbench) -> list[Event]:
    (file,) = (bench.store.root / "events").iterdir()
    return [Event.from_json(msgspec.json.decode(line)) for line in file.read_bytes().splitlines()]


def test_what_fails_is_told_and_the_rest_goes_on(bench: Workbench) -> None:
    goals = [goal("a"), goal("b", fails=BadInput("no b")), goal("c", "b"), goal("d", "c"), goal("e", "a")]
    outcome = run_goals(bench, goals)
    assert set(outcome.done) == {"a", "e"}
    assert [(f.goal, f.error, f.message, f.trace) for f in outcome.failed] == [("b", "BadInput", "no b", None)]
    assert outcome.skipped == {"c": "b", "d": "c"}
    with pytest.raises(GoalsFailed, match=r"1 of 5 .*, and 2 that need them were not tried: b: no b; .*other 2"):
        outcome.check()
    assert [artifact.about["lang"] for artifact in bench.store.all()] == ["a", "e"]
    told = [(e.event, e.scope, e.name, e.goal) for e in events(bench)]
    assert told == [
        ("began", "goal", "a", None), ("began", "step", "write", "a"), ("ended", "step", "write", "a"),
        ("ended", "goal", "a", None), ("began", "goal", "b", None), ("failed", "goal", "b", None),
        ("skipped", "goal", "c", None), ("skipped", "goal", "d", None), ("began", "goal", "e", None),
        ("began", "step", "write", "e"), ("ended", "step", "write", "e"), ("ended", "goal", "e", None),
    ]  # fmt: skip
    made = next(e for e in events(bench) if e.event == "ended" and e.scope == "step")
    assert made.id == bench.store.all()[0].id


def test_a_second_run_finds_what_is_done_and_tries_the_rest(bench: Workbench) -> None:
    run_goals(bench, [goal("a"), goal("b", fails=BadInput("no b"))])
    bench.plan.clear()
    outcome = run_goals(bench, [goal("a"), goal("b")])
    outcome.check()
    assert [line.done for line in bench.plan] == [True, False]
    assert [(e.event, e.goal) for e in events(bench) if e.scope == "step"][-3:] == [
        ("found", "a"), ("began", "b"), ("ended", "b"),
    ]  # fmt: skip


def test_a_bug_keeps_its_traceback_and_its_text_stays_out_of_the_log(bench: Workbench) -> None:
    outcome = run_goals(bench, [goal("a", fails=KeyError("PROMPT-TEXT")), goal("b")])
    (failure,) = outcome.failed
    assert failure.trace is not None
    assert "Traceback" in failure.trace
    assert "PROMPT-TEXT" in failure.trace
    assert "PROMPT-TEXT" not in failure.message
    (told,) = (e for e in events(bench) if e.event == "failed")
    assert (told.error, "PROMPT-TEXT" in str(told)) == ("KeyError", False)
    assert told.message is not None
    assert told.message.startswith("test_run_goals.py:")
    assert set(outcome.done) == {"b"}


@pytest.mark.parametrize("error", [full, lambda: MemoryError(), lambda: KeyboardInterrupt()])
def test_what_would_fail_everywhere_stops_the_run(bench: Workbench, error: Callable[[], BaseException]) -> None:
    raised = error()
    with pytest.raises(type(raised)):
        run_goals(bench, [goal("a", fails=raised), goal("b")])
    assert bench.store.all() == []


def test_a_model_that_cannot_be_loaded_stops_the_run_and_a_judge_that_gives_up_does_not(bench: Workbench) -> None:
    goals = [goal("a", fails=ModelError("the judge cannot be loaded")), goal("b")]
    assert set(run_goals(bench, goals).done) == {"b"}  # also where the model made room for the judge

    def needs_model(bench: Workbench) -> Sequence[Artifact]:
        return [bench.model][1:]  # type: ignore[list-item]

    goals = [goal("a", fails=BadInput("no a")), Goal("c", "c", (), "model", needs_model), goal("d")]
    outcome = Outcome()
    with pytest.raises(ModelError, match="tiny"):
        run_goals(bench, goals, outcome=outcome)
    assert [failure.goal for failure in outcome.failed] == ["a"]  # what was known before is not lost
    assert outcome.done == {}


def test_without_keep_going_the_first_failure_is_raised(bench: Workbench) -> None:
    with pytest.raises(BadInput, match="no a"):
        run_goals(bench, [goal("a", fails=BadInput("no a")), goal("b")], keep_going=False)
    assert bench.store.all() == []


def test_goals_are_chosen_by_name_and_by_language() -> None:
    goals = [goal(name) for name in ("select:en", "select:de", "labels:en:de")]
    assert [g.name for g in chosen_goals(goals, ["select:*"])] == ["select:en", "select:de"]
    assert [g.name for g in chosen_goals(goals, ["labels:*", "select:en"])] == ["select:en", "labels:en:de"]
    for patterns, langs, words in (
        (["nothing:*"], [], "no goal fits 'nothing:\\*'; `--list-goals`"),
        (["select:*", "x"], [], "no goal fits 'x'"),
        ([], ["fr"], "no goal is about 'fr'"),
    ):
        with pytest.raises(BadInput, match=words):
            chosen_goals(goals, patterns, langs)
