"""Working through goals: one that fails does not stop those that do not need it, and nothing of it is hidden."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from refusalctl.errors import BadInput, GoalsFailed, RefusalctlError
from refusalctl.file_errors import explain, reason, system_reason
from refusalctl.language_codes import check_code
from refusalctl.steps.goals import Goal
from refusalctl.steps.step import Workbench
from refusalctl.store.event_log import told

SHOWN = 3  # failures that the one line of an error names


@dataclass(frozen=True)
class Failure:
    """Why a goal failed. `trace`: of a bug, the traceback; None for what is known."""

    goal: str
    error: str
    message: str
    trace: str | None = None

    @classmethod
    def of(cls, goal: str, error: Exception) -> Failure:
        known = error if isinstance(error, RefusalctlError) else explain(error)
        if known is not None:
            return cls(goal, type(error).__name__, str(known))
        kind = type(error).__name__
        return cls(goal, kind, f"{kind}, which is a bug", "".join(traceback.format_exception(error)))


@dataclass
class Outcome:
    """What became of the goals that were asked for: ids of their artifacts, failures, and those that were not tried
    because they need one that failed, by the name of that."""

    done: dict[str, list[str]] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return len(self.done) + len(self.failed) + len(self.skipped)

    def blocks(self, goal: Goal) -> str | None:
        """A need of this goal that failed or was not tried."""
        broken = {failure.goal for failure in self.failed} | set(self.skipped)
        return next((need for need in goal.needs if need in broken), None)

    def check(self) -> None:
        """Raise `GoalsFailed` where a goal failed."""
        if not self.failed:
            return
        shown = [f"{each.goal}: {each.message}" for each in self.failed[:SHOWN]]
        more = len(self.failed) - len(shown)
        skipped = f", and {len(self.skipped)} that need them were not tried" if self.skipped else ""
        raise GoalsFailed(
            f"{len(self.failed)} of {self.n} goals failed{skipped}: {'; '.join(shown)}"
            + (f"; and {more} more" if more else ""),
            hint=f"the other {len(self.done)} are done and kept: mend this and give the same command again",
        )


def chosen_goals(goals: Sequence[Goal], only: Iterable[str] = (), langs: Iterable[str] = ()) -> list[Goal]:
    """Goals whose name fits a pattern of `only` (`select:*`) and whose language is one of `langs`; all of them where
    none are given. Raises `BadInput` for a pattern or a language that fits none."""
    patterns, wanted = list(only), [check_code(lang) for lang in langs]
    hint = "`--list-goals` shows them"
    for pattern in patterns:
        if not any(fnmatchcase(goal.name, pattern) for goal in goals):
            raise BadInput(f"no goal fits {pattern!r}", hint=hint)
    for lang in wanted:
        if all(goal.lang != lang for goal in goals):
            raise BadInput(f"no goal is about {lang!r}", hint=hint)
    found = [
        goal
        for goal in goals
        if (not patterns or any(fnmatchcase(goal.name, pattern) for pattern in patterns))
        and (not wanted or goal.lang in wanted)
    ]
    if not found:
        raise BadInput("no goal fits both the patterns and the languages", hint=hint)
    return found


def run_goals(
    bench: Workbench, goals: Sequence[Goal], *, keep_going: bool = True, outcome: Outcome | None = None
) -> Outcome:
    """All goals in this process, one after the other.

    With `keep_going` what fails is collected and the rest goes on; the caller looks at the outcome (`check`). What
    would fail everywhere, a full disk or a model that cannot be loaded, is raised at once, and so is everything
    without `keep_going`. `outcome`: filled as it goes, so that what was known is not lost where this raises.
    """
    outcome = Outcome() if outcome is None else outcome
    for goal in goals:
        blocked = outcome.blocks(goal)
        if blocked is not None:
            outcome.skipped[goal.name] = blocked
            bench.events.write("skipped", "goal", goal.name, message=f"it needs {blocked}")
            continue
        try:
            outcome.done[goal.name] = run_goal(bench, goal)
        except Exception as error:
            if not keep_going or stops_all(error, bench):
                raise
            outcome.failed.append(Failure.of(goal.name, error))
    return outcome


def run_goal(bench: Workbench, goal: Goal) -> list[str]:
    """One goal; ids of its artifacts. Raises what its steps raise."""
    if bench.dry_run:
        return [each.id for each in goal.work(bench)]
    with bench.events.goal(goal.name), told(bench.events, "goal", goal.name):
        return [each.id for each in goal.work(bench)]


def stops_all(error: BaseException, bench: Workbench) -> bool:
    """Whether this failure would be that of every other goal too: the model under study cannot be had (a judge that
    cannot is the failure of what it judges), or the machine refuses."""
    if any(error is each for each in bench.unusable):
        return True
    cause: BaseException | None = error
    while cause is not None:
        found = system_reason(cause)
        known = reason(found[0]) if found else None
        if isinstance(cause, MemoryError) or (known is not None and known.alone):
            return True
        cause = cause.__cause__
    return False
