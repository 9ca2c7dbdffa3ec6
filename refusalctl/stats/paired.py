"""Two conditions on the same prompts: the paired difference with its score interval, and exact McNemar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from refusalctl.errors import BadInput
from refusalctl.stats.rates import Interval

BOOTSTRAP_SEED, RESAMPLES = 0, 10_000


class Moves(NamedTuple):
    """Prompts that went forth (refusal to compliance, say), back, and from the first to an unknown label, of `n`.

    `clusters` holds, per group of prompts that count as one unit, its size and its net moves; None where every prompt
    is a unit of its own.
    """

    forth: float
    back: float
    unknown: float
    n: float
    clusters: tuple[tuple[int, int], ...] | None = None

    @property
    def difference(self) -> float:
        return (self.forth - self.back) / self.n

    def scaled(self, factor: float) -> Moves:
        """The same shares at another number of prompts."""
        forth, back, unknown, n = (factor * value for value in self[:4])
        return Moves(forth, back, unknown, n)


def moves(
    before: Mapping[str, str],
    after: Mapping[str, str],
    origin: str = "refusal",
    goal: str = "compliance",
    clusters: Mapping[str, str] | None = None,
) -> Moves:
    """Count moves between two outcomes by prompt id. Raises `BadInput` unless both cover the same prompts, and any."""
    if set(before) != set(after) or not before:
        raise BadInput(
            f"paired conditions must hold the same prompts: {len(before)} and {len(after)} prompts, "
            f"{len(set(before) & set(after))} in both"
        )
    pairs = Counter((before[i], after[i]) for i in before)
    unknown = pairs[origin, "unparsed"]
    groups: dict[str, list[int]] = {}
    for i in before:
        step = int((before[i], after[i]) == (origin, goal)) - int((before[i], after[i]) == (goal, origin))
        groups.setdefault((clusters or {}).get(i) or i, []).append(step)
    repeated = any(len(group) > 1 for group in groups.values())
    units = tuple((len(group), sum(group)) for group in groups.values()) if repeated else None
    return Moves(pairs[origin, goal], pairs[goal, origin], unknown, len(before), units)


def score_interval(forth: float, back: float, n: float, alpha: float = 0.05, correction: float = 0.0) -> Interval:
    """Asymptotic score interval of the paired difference (forth - back) / n (Tango 1998, Stat. in Medicine 17:891).

    Keeps its coverage at zero flips and at full removal, where Wald intervals and bootstraps have no width.
    `correction`: prompts by which either limit gives way (0.5 is the usual correction for continuity).
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if n <= 0 or forth < 0 or back < 0 or forth + back > n * (1 + 1e-12):
        raise BadInput(f"{forth:g} and {back:g} moves among {n:g} prompts cannot be")
    z, difference, edge = float(norm.isf(alpha / 2)), (forth - back) / n, 1 - 1e-12

    def below(delta: float) -> float:
        return _score(forth, back, n, delta, correction) - z

    def above(delta: float) -> float:
        return _score(forth, back, n, delta, -correction) + z

    low = -1.0 if below(-edge) <= 0 else float(brentq(below, -edge, difference, xtol=1e-10))
    high = 1.0 if above(edge) >= 0 else float(brentq(above, difference, edge, xtol=1e-10))
    return Interval(low, high)


def _score(forth: float, back: float, n: float, delta: float, correction: float) -> float:
    """Standardised distance of the observed from a supposed difference; falls as `delta` rises."""
    b = (2 * n - forth + back) * delta - forth - back
    c = -back * delta * (1 - delta)
    share = (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # of moves back, by maximum likelihood given delta
    spread = n * (2 * share + delta * (1 - delta))
    gap = forth - back - n * delta - correction
    if spread <= 1e-12:
        return 0.0 if abs(gap) < 1e-12 else float(np.copysign(1e9, gap))
    return float(gap / sqrt(spread))


def interval(found: Moves, alpha: float = 0.05, correction: float = 0.0) -> Interval:
    """Interval of the difference. Where prompts repeat, the wider of the score interval at the number of clusters and
    the percentile bootstrap over clusters, which alone would have no width at zero flips."""
    if found.clusters is None:
        return score_interval(found.forth, found.back, found.n, alpha, correction)
    share = len(found.clusters) / found.n
    score = score_interval(found.forth * share, found.back * share, found.n * share, alpha, correction)
    units = np.array(found.clusters, dtype=float)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(len(units), size=(RESAMPLES, len(units)))
    sums = units[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 1] / sums[:, 0], [alpha / 2, 1 - alpha / 2])
    return Interval(min(score.low, float(low)), max(score.high, float(high)))


def mcnemar_p(found: Moves) -> float:
    """Two-sided exact McNemar test that forth and back are equally likely (statsmodels)."""
    from statsmodels.stats.contingency_tables import mcnemar

    return float(mcnemar([[0, found.forth], [found.back, 0]], exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values of one family (Holm 1979; statsmodels), in the same order."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]] if p_values else []
