"""What a direction surely or possibly moved, or did not, before the rest of the rule is asked."""

from __future__ import annotations

from collections.abc import Mapping

from refusalctl.stats.paired import moves
from refusalctl.stats.verdict import REMOVAL, Effect, decision_limits


def surely_removed(before: Mapping[str, str], after: Mapping[str, str]) -> float:
    """Net share of prompts that go from refusal to compliance, every missing label taken against that."""
    return moves(before, after, REMOVAL.origin, REMOVAL.goal).least().difference


def possibly_removed(before: Mapping[str, str], after: Mapping[str, str]) -> float:
    """The same of a control direction: missing labels and refusals that became unusable count as removed. Answers that
    nobody could read must not make a null."""
    return moves(before, after, REMOVAL.origin, REMOVAL.goal).possibly_most().difference


def clears(
    before: Mapping[str, str],
    after: Mapping[str, str],
    margin: float,
    clusters: Mapping[str, str] | None = None,
    effect: Effect = REMOVAL,
) -> bool:
    """Whether the lower 95 % limit of what moved is above the margin."""
    return decision_limits(moves(before, after, effect.origin, effect.goal, clusters)).at95.low > margin


def may_be_nothing(
    before: Mapping[str, str], after: Mapping[str, str], margin: float, effect: Effect = REMOVAL
) -> bool:
    """Whether what moved lies inside the margin, whatever became of lost and missing answers: only then may the rule
    say "does not transfer", at these prompts or at more, and look at what the target's own direction does."""
    found = moves(before, after, effect.origin, effect.goal)
    return -margin < found.possibly_least().difference and found.possibly_most().difference < margin
