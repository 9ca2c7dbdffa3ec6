"""Which candidates are scored on what: all on everything, or only as far as the choice needs it.

- `full`: every candidate on bypass, induce and KL. Plots, another rule and the bootstrap over prompts need it.
- `prune`: every candidate on a few harmless prompts first (not on a GPU, which runs all at once), whose KL alone may be
  more than all may have; the others on bypass; induce and KL in the order of bypass scores, until one passes the rule.
  The choice is that of `full`: what was left out does not pass, and whatever comes later in this order could not win.
- `screen`: `prune` among the candidates that look best to first order (`refusalctl.model.gradients`). The choice is
  that of `full` where the winner is among them, which nothing guarantees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, inf
from typing import Protocol

from refusalctl.records.selection import Candidate, ScoreEstimate, Search
from refusalctl.stats.candidate_choice import pick
from refusalctl.stats.selection_rule import Rule

# candidates that a screening scores at a time, and the share of a large grid: among 138 candidates on 8 prompts a class
# the winner was the 27th in the estimates' order
SURVIVORS, SURVIVING = 12, 0.2
# how far an estimate has to be beyond a limit before a candidate is put last: in smollm2-refuser estimated KL was
# 0.2 to 4.7 times the true one, and the induce score at most 0.8 too low
KL_DOUBT, INDUCE_DOUBT = 3.0, 2.0


class Measure(Protocol):
    """Scores of candidates, measured when asked for; `scorer.Ledger` is one."""

    def mean(self, name: str, candidate: Candidate) -> float: ...

    def exceeds(self, candidate: Candidate, limit: float, *, at_a_look: bool = False) -> bool: ...

    def complete(self, candidate: Candidate) -> None: ...

    def estimates(self) -> Mapping[Candidate, ScoreEstimate]: ...


def run(how: Search, measure: Measure, grid: Sequence[Candidate], rule: Rule | None = None) -> None:
    """The search by its name; `full` needs no rule."""
    if how == "full" or rule is None:
        full(measure, grid)
    else:
        {"prune": prune, "screen": screen}[how](measure, grid, rule)


def full(measure: Measure, grid: Sequence[Candidate]) -> None:
    """Score every candidate on everything."""
    for candidate in grid:
        measure.complete(candidate)


def prune(measure: Measure, grid: Sequence[Candidate], rule: Rule) -> bool:
    """Score what the choice needs, and the winner on everything. Whether one passes.

    Where none does, everything is scored: which threshold would let which candidate in cannot be said otherwise.
    """
    found = _try(measure, grid, rule)
    if found is None:
        full(measure, grid)
        return False
    measure.complete(found)
    return True


def _try(measure: Measure, grid: Sequence[Candidate], rule: Rule) -> Candidate | None:
    """The candidate that the rule chooses, or None."""
    most = inf if rule.max_kl is None else rule.max_kl
    if most < inf:
        grid = [c for c in grid if not measure.exceeds(c, most, at_a_look=True)]
    found = pick(
        len(grid),
        lambda i: measure.mean("bypass", grid[i]),
        lambda i: measure.mean("induce", grid[i]),
        lambda i: inf if measure.exceeds(grid[i], most) else measure.mean("kl", grid[i]),
        rule,
    )
    return grid[found[0]] if found is not None and found[1] else None


def screen(measure: Measure, grid: Sequence[Candidate], rule: Rule) -> bool:
    """`prune` among the most promising candidates, and the next ones as long as none passes."""
    estimates = measure.estimates()
    order = sorted(grid, key=lambda c: (looks_failing(estimates[c], rule), estimates[c].bypass))
    size = max(SURVIVORS, ceil(SURVIVING * len(grid)))
    for n in range(size, len(grid) + size, size):
        survivors = set(order[:n])
        found = _try(measure, [c for c in grid if c in survivors], rule)  # in grid order: the first of equals wins
        if found is not None:
            measure.complete(found)
            return True
    full(measure, grid)
    return False


def looks_failing(estimate: ScoreEstimate, rule: Rule) -> bool:
    """Whether a candidate is estimated to fail by more than estimates are usually wrong."""
    too_weak = rule.min_induce is not None and estimate.induce < rule.min_induce - INDUCE_DOUBT
    return too_weak or (rule.max_kl is not None and estimate.kl > KL_DOUBT * rule.max_kl)
