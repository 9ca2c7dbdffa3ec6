"""Which candidates are scored on what: all on everything, or only as far as the choice needs it.

- `full`: every candidate on bypass, induce and KL. Plots, another rule and the bootstrap over prompts need it.
- `prune`: every candidate on bypass; induce and KL in the order of bypass scores, until one passes the rule. The choice
  is that of `full`, because whatever comes later in this order could not win.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from refusalctl.stats.rule import Rule
from refusalctl.stats.selection import Candidate, pick


class Measure(Protocol):
    """Scores of candidates, measured when asked for; `scorer.Ledger` is one."""

    def mean(self, name: str, candidate: Candidate) -> float: ...

    def complete(self, candidate: Candidate) -> None: ...


def full(measure: Measure, grid: Sequence[Candidate]) -> None:
    """Score every candidate on everything."""
    for candidate in grid:
        measure.complete(candidate)


def prune(measure: Measure, grid: Sequence[Candidate], rule: Rule) -> bool:
    """Score what the choice needs, and the winner on everything. Whether one passes.

    Where none does, everything is scored: which threshold would let which candidate in cannot be said otherwise.
    """
    found = pick(
        len(grid),
        lambda i: measure.mean("bypass", grid[i]),
        lambda i: measure.mean("induce", grid[i]),
        lambda i: measure.mean("kl", grid[i]),
        rule,
    )
    if found is None or not found[1]:
        full(measure, grid)
        return False
    measure.complete(grid[found[0]])
    return True
