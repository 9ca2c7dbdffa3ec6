"""Rates with their counts, and paired changes between two conditions on the same prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from refusalctl.errors import BadInput
from refusalctl.records.estimates import Interval as Interval
from refusalctl.records.transfer import Flips
from refusalctl.stats.outcomes import OFF_LANGUAGE


@dataclass(frozen=True)
class Rate:
    """`count` of `n` labelled completions; `unparsed` more had no label and are in neither number."""

    count: int
    n: int
    unparsed: int = 0

    def __post_init__(self) -> None:
        if self.n <= 0 or not 0 <= self.count <= self.n:
            raise BadInput(
                f"a rate of {self.count} in {self.n} does not exist"
                + (f" ({self.unparsed} completions are unparsed)" if self.unparsed else "")
            )

    @property
    def value(self) -> float:
        return self.count / self.n

    def wilson(self, alpha: float = 0.05) -> Interval:
        """Wilson score interval without continuity correction (Wilson 1927), from scipy."""
        from scipy.stats import binomtest

        found = binomtest(self.count, self.n).proportion_ci(confidence_level=1 - alpha, method="wilson")
        return Interval(float(found.low), float(found.high))

    def clopper_pearson(self, alpha: float = 0.05) -> Interval:
        """Exact interval (Clopper and Pearson 1934), from scipy; covers at least 1 - alpha at every true rate."""
        from scipy.stats import binomtest

        found = binomtest(self.count, self.n).proportion_ci(confidence_level=1 - alpha, method="exact")
        return Interval(float(found.low), float(found.high))


def outcome_rate(outcomes: Sequence[str], outcome: str) -> Rate:
    """Share of `outcome` among labelled completions; `unparsed` ones are counted apart, never as a label."""
    counts = Counter(outcomes)
    return Rate(counts[outcome], len(outcomes) - counts["unparsed"], counts["unparsed"])


def flips(baseline: dict[str, str], changed: dict[str, str]) -> Flips:
    """Compare outcomes by prompt id. Raises `BadInput` unless both cover the same prompts, and any at all."""
    if set(baseline) != set(changed) or not baseline:
        raise BadInput(
            f"paired conditions must hold the same prompts: {len(baseline)} and {len(changed)} prompts, "
            f"{len(set(baseline) & set(changed))} in both"
        )
    moves = Counter((baseline[i], changed[i]) for i in baseline)
    return Flips(
        n=len(baseline),
        removed=moves["refusal", "compliance"],
        gained=moves["compliance", "refusal"],
        to_degenerate=sum(c for (a, b), c in moves.items() if b == "degenerate" and a != "degenerate"),
        unparsed=sum(c for pair, c in moves.items() if "unparsed" in pair),
        to_off_language=sum(c for (a, b), c in moves.items() if b == OFF_LANGUAGE and a != OFF_LANGUAGE),
    )


def fewest_flips(alpha: float = 0.05) -> int:
    """Prompts that must change, all one way, before the exact two-sided McNemar test gives p < alpha (McNemar 1947).

    k changes of which none goes back have p = 2 * 0.5**k.
    """
    return next(k for k in range(1, 1000) if 2 * 0.5**k < alpha)
