"""The part of `Study` that works through a transfer goal by goal, here or on many machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refusalctl.errors import BadInput
from refusalctl.steps.goals import Goal, goals_of
from refusalctl.steps.run_goals import Outcome, chosen_goals, run_goals
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import check_plan

if TYPE_CHECKING:
    from refusalctl.executors.ray_goals import RayWorkers


class Working:
    """Goals of a study."""

    bench: Workbench
    is_checked = False  # whether the whole plan was looked at before goals were computed

    def goals(self, only: Sequence[str] = (), langs: Sequence[str] = ()) -> list[Goal]:
        """What a transfer needs, in parts that can be computed apart: those whose name fits a pattern of `only`
        (`select:*`) and whose language, of a pair the target, is one of `langs`; all where none are given."""
        if not self.bench.settings.sources or not self.bench.settings.targets:
            raise BadInput("goals need languages", hint="name sources and targets")
        return chosen_goals(goals_of(self.bench.settings), only, langs)

    def work(
        self,
        goals: Sequence[Goal] | None = None,
        *,
        keep_going: bool = True,
        ray: RayWorkers | None = None,
        outcome: Outcome | None = None,
    ) -> Outcome:
        """Compute goals, by default all; `transfer()` then only puts the matrix together. With `keep_going` what fails
        is in the outcome and the rest goes on. `ray`: on the workers of a Ray cluster instead of here.
        `outcome`: one to fill, which tells what is done and what failed also where this raises."""
        wanted = self.goals() if goals is None else list(goals)
        check_plan(self.bench)
        self.is_checked = not self.bench.dry_run
        if ray is None or self.bench.dry_run:
            return run_goals(self.bench, wanted, keep_going=keep_going, outcome=outcome)
        from refusalctl.executors.ray_goals import run_on_ray

        return run_on_ray(self.bench, wanted, ray, keep_going=keep_going, outcome=outcome)
