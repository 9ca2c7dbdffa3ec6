"""The part of `Study` that asks one question under several system prompts."""

from __future__ import annotations

from collections.abc import Sequence

import refusalctl.results as r
from refusalctl.errors import BadInput
from refusalctl.steps.comparison import measure_comparison
from refusalctl.steps.step import Workbench
from refusalctl.steps.system_arms import bench_of, system_arms
from refusalctl.steps.transfer import check_plan, measure_transfer


class InArms:
    """System prompts as arms of a study."""

    bench: Workbench

    def arms(self, given: Sequence[str]) -> dict[str, r.Transfer]:
        """The study's transfer under each of several system prompts, by the arms' names.

        `given`: `own` (what the chat template does where it is told nothing), `none` (no text at all, as far as the
        template allows), or `NAME=TEXT`. Arms that come to the same prompt are the same artifact. Raises `BadInput`
        for fewer than two arms, and `ModelError` where the template takes no system prompt.
        """
        if not self.bench.settings.sources or not self.bench.settings.targets:
            raise BadInput("a transfer needs languages", hint="name sources and targets")
        benches = {arm.name: bench_of(self.bench, arm) for arm in system_arms(self.bench, given)}
        for bench in benches.values():  # what one arm cannot be asked is said before another is measured
            check_plan(bench)
        store = self.bench.store
        return {name: r.Transfer(store, measure_transfer(b, is_checked=True)) for name, b in benches.items()}

    def between_arms(self, arms: dict[str, r.Transfer]) -> dict[str, r.Comparison]:
        """Every arm cell by cell against the first, on the same prompts; without those that are the same prompt."""
        first, *others = arms.values()
        names = list(arms)[1:]
        return {
            name: r.Comparison(self.bench.store, measure_comparison(self.bench, [first.artifact, other.artifact]))
            for name, other in zip(names, others)
            if other.id != first.id
        }
