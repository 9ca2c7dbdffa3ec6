"""What `run` and `transfer` do before a matrix can be put together: work through the goals, and tell how it went."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from refusalctl.cli import out
from refusalctl.cli.session import Session, languages
from refusalctl.errors import RefusalctlError
from refusalctl.records.printed import ListedGoal, PrintedGoals
from refusalctl.setting_words import meant
from refusalctl.store.event_log import EventLog, told, without_result

if TYPE_CHECKING:
    from refusalctl.executors.ray_goals import RayWorkers
    from refusalctl.steps.goals import Goal
    from refusalctl.steps.run_goals import Outcome

EXECUTORS = ("process", "ray")


@contextmanager
def work_through(session: Session, command: str) -> Iterator[bool]:
    """Do all goals, or those that were asked for. Inside the block, which belongs to the logged run, True says that all
    are done and the matrix can be put together.

    Raises `GoalsFailed` where a goal failed, after the others were done.
    """
    from refusalctl.steps.run_goals import Outcome

    asked, study = session.goals, session.study
    if asked.is_part and session.name is not None:
        raise typer.BadParameter("--name names a whole matrix: leave it out with --only and --only-langs")
    workers = _workers(session)
    goals = study.goals(asked.only or (), () if asked.only_langs is None else languages(asked.only_langs))
    if asked.list_goals:
        _list(session, goals)
        yield False
        return
    if session.dry_run:
        if asked.is_part:
            study.work(goals, keep_going=False)
            session.finish()
        yield not asked.is_part
        return
    log, outcome = EventLog(study.store), Outcome()
    study.bench.events = log
    try:
        with told(log, "run", command, about={"goals": len(goals), "executor": asked.executor}):
            try:
                study.work(goals, keep_going=not asked.fail_fast, ray=workers, outcome=outcome)
            finally:
                _tell(outcome, log.run)
            outcome.check()
            if asked.is_part:
                _finish(session, goals, outcome)
            yield not asked.is_part
    finally:
        log.close()


def _workers(session: Session) -> RayWorkers | None:
    """What `--executor ray` and its options ask for. Raises usage errors."""
    asked = session.goals
    if asked.executor not in EXECUTORS:
        near = meant(asked.executor, EXECUTORS)
        raise typer.BadParameter(f"there is no executor {asked.executor!r}; {near}choose {' or '.join(EXECUTORS)}")
    if asked.executor == "process":
        if asked.workers is not None or asked.per_worker is not None:
            raise typer.BadParameter("--workers and --per-worker need --executor ray")
        return None
    from refusalctl.executors.ray_goals import RayWorkers, require_ray

    require_ray()
    return RayWorkers.of(asked.workers, asked.per_worker)


def _tell(outcome: Outcome, run: str) -> None:
    """Every failure, with the traceback of what is a bug, before the error that ends the command."""
    if not outcome.failed:
        return
    out.table_err(("goal", "failed with", "why"), [(f.goal, f.error, f.message) for f in outcome.failed], asked=True)
    for name, need in outcome.skipped.items():
        out.info(f"{name} was not tried: it needs {need}")
    for trace in dict.fromkeys(failure.trace for failure in outcome.failed if failure.trace):
        out.trace(trace)
    out.info(f"`refusalctl artifacts log {run}` shows what happened")


def _finish(session: Session, goals: list[Goal], outcome: Outcome) -> None:
    """Ids of the goals' artifacts on stdout; the matrix is left to a run without `--only`."""
    for note in session.study.notes:
        out.warn(note)
    computed = sum(not line.done for line in session.study.plan)
    out.success(f"{outcome.n} goals are done, {computed} steps computed now; nothing is put together")
    if session.json:
        rows = [ListedGoal(g.name, g.lang, g.needs, True, tuple(outcome.done[g.name])) for g in goals]
        out.as_json(PrintedGoals(tuple(rows)))
        return
    for identifier in dict.fromkeys(identifier for ids in outcome.done.values() for identifier in ids):
        out.data(identifier)


def _list(session: Session, goals: list[Goal]) -> None:
    """What is done, as far as that shows without computing; a step that gave no artifact before would give none."""
    rows, states = [], []
    study = session.study
    study.bench.fruitless |= {key: (why, None) for key, why in without_result(study.store).items()}
    for goal in goals:
        bench = study.bench.planning()
        try:
            ids = [each.id for each in goal.work(bench) if not each.planned]
            done = bool(bench.plan) and all(line.done for line in bench.plan)
            state = "to compute" if not done else "done" if ids else "done: there is nothing to compute"
        except RefusalctlError as error:  # what a run would say of it
            ids, done, state = [], False, f"fails: {error.message}"
        rows.append(ListedGoal(goal.name, goal.lang, goal.needs, done, tuple(ids)))
        states.append(state)
    if session.json:
        out.as_json(PrintedGoals(tuple(rows)))
        return
    cells = [(r.name, r.lang, state, " ".join(r.needs)) for r, state in zip(rows, states, strict=True)]
    out.table("", ("goal", "language", "state", "needs"), cells)
