"""Two conditions on the same prompts: the paired difference with its score interval, and exact McNemar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import sqrt
from typing import NamedTuple

import numpy as np

from refusalctl.errors import BadInput
from refusalctl.stats.rates import Interval, Rate

BOOTSTRAP_SEED, RESAMPLES = 0, 10_000
SHIFT = 1.0  # prompts by which the limits of a decision stand further out; docs/verdicts.md, "Why one prompt further"


class Unit(NamedTuple):
    """Prompts that count as one (copies of a text): how many, their net moves, and what missing labels may hide."""

    size: int
    net: int
    unknown: int
    unknown_back: int


class Moves(NamedTuple):
    """Prompts that went forth (refusal to compliance, say) and back, of `n`.

    `unknown` and `unknown_back` count prompts whose missing label may hide a move forth, or back. `units` holds groups
    of prompts that count as one, None where every prompt is one of its own.
    """

    forth: float
    back: float
    unknown: float
    n: float
    units: tuple[Unit, ...] | None = None
    unknown_back: float = 0

    @property
    def difference(self) -> float:
        return (self.forth - self.back) / self.n

    def scaled(self, factor: float) -> Moves:
        """The same shares at another number of prompts that are each a unit."""
        forth, back, unknown, n = (factor * value for value in self[:4])
        return Moves(forth, back, unknown, n, None, factor * self.unknown_back)

    def most(self) -> Moves:
        """Every missing label taken as a move forth."""
        units = None if self.units is None else tuple(u._replace(net=u.net + u.unknown) for u in self.units)
        return self._replace(forth=self.forth + self.unknown, units=units)

    def least(self) -> Moves:
        """Every missing label taken as a move back."""
        units = None if self.units is None else tuple(u._replace(net=u.net - u.unknown_back) for u in self.units)
        return self._replace(back=self.back + self.unknown_back, units=units)


def same_prompts(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raise `BadInput` unless both cover the same prompts, and any."""
    if set(before) != set(after) or not before:
        raise BadInput(
            f"paired conditions must hold the same prompts: {len(before)} and {len(after)} prompts, "
            f"{len(set(before) & set(after))} in both",
            hint="judge both conditions on the prompts of one experiment",
        )


def moves(
    before: Mapping[str, str],
    after: Mapping[str, str],
    origin: str = "refusal",
    goal: str = "compliance",
    clusters: Mapping[str, str] | None = None,
) -> Moves:
    """Count moves between two outcomes by prompt id. Raises `BadInput` unless both cover the same prompts, and any."""
    same_prompts(before, after)
    groups: dict[str, list[Unit]] = {}
    for i in before:
        groups.setdefault((clusters or {}).get(i) or i, []).append(_unit(before[i], after[i], origin, goal))
    units = tuple(Unit(*(sum(column) for column in zip(*group, strict=True))) for group in groups.values())
    pairs = Counter((before[i], after[i]) for i in before)
    unknown, unknown_back = sum(u.unknown for u in units), sum(u.unknown_back for u in units)
    repeated = units if len(units) < len(before) else None
    return Moves(pairs[origin, goal], pairs[goal, origin], unknown, len(before), repeated, unknown_back)


def _unit(before: str, after: str, origin: str, goal: str) -> Unit:
    """One prompt. A label that is missing may stand for either outcome that it would take to move."""

    def may(start: str, end: str) -> int:
        hidden = "unparsed" in (before, after)
        return int(hidden and before in (start, "unparsed") and after in (end, "unparsed"))

    net = int((before, after) == (origin, goal)) - int((before, after) == (goal, origin))
    return Unit(1, net, may(origin, goal), may(goal, origin))


def score_interval(forth: float, back: float, n: float, alpha: float = 0.05, shift: float = 0.0) -> Interval:
    """Asymptotic score interval of the paired difference (forth - back) / n (Tango 1998, Stat. in Medicine 17:891).

    Keeps its coverage at zero flips and at full removal, where Wald intervals and bootstraps have no width. `shift`
    moves both limits out by a continuity correction of so many prompts.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if n <= 0 or forth < 0 or back < 0 or forth + back > n * (1 + 1e-12):
        raise BadInput(f"{forth:g} and {back:g} moves among {n:g} prompts cannot be")
    z, difference, edge = float(norm.isf(alpha / 2)), (forth - back) / n, 1 - 1e-12

    def distance(delta: float, side: float) -> float:
        return float(score(forth, back, n, delta, side * shift)) - side * z

    low = -1.0 if distance(-edge, 1) <= 0 else float(brentq(distance, -edge, difference, args=(1,), xtol=1e-10))
    high = 1.0 if distance(edge, -1) >= 0 else float(brentq(distance, difference, edge, args=(-1,), xtol=1e-10))
    return Interval(low, high)


def score(forth: float, back: float, n: float, delta: float, shift: float = 0.0) -> float:
    """Standardised distance of the observed from a supposed difference (Tango 1998, eq. 24-26); falls with `delta`."""
    b = (2 * n - forth + back) * delta - forth - back
    c = -back * delta * (1 - delta)
    share = (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # of moves back, by maximum likelihood given delta
    spread = n * (2 * share + delta * (1 - delta))
    gap = forth - back - shift - n * delta
    if spread <= 1e-12:
        return 0.0 if abs(gap) < 1e-12 else float(np.copysign(1e9, gap))
    return float(gap / sqrt(spread))


@lru_cache(maxsize=4096)
def interval(found: Moves, alpha: float = 0.05, shift: float = 0.0) -> Interval:
    """Interval of the difference. Where prompts repeat, the wider of the score interval at the number of units and
    the percentile bootstrap over units, which alone would have no width at zero flips."""
    if found.units is None:
        return score_interval(found.forth, found.back, found.n, alpha, shift)
    share = len(found.units) / found.n
    by_score = score_interval(found.forth * share, found.back * share, found.n * share, alpha, shift)
    units = np.array([unit[:2] for unit in found.units], dtype=float)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(len(units), size=(RESAMPLES, len(units)))
    sums = units[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 1] / sums[:, 0], [alpha / 2, 1 - alpha / 2])
    return Interval(min(by_score.low, float(low)), max(by_score.high, float(high)))


def mcnemar_p(found: Moves) -> float:
    """Two-sided exact McNemar test that forth and back are equally likely (statsmodels)."""
    from statsmodels.stats.contingency_tables import mcnemar

    return float(mcnemar([[0, found.forth], [found.back, 0]], exact=True).pvalue)


def equivalence_p(found: Moves, margin: float, shift: float = SHIFT) -> float:
    """Two one-sided score tests (TOST) that the difference lies within (-margin, margin): the larger p-value.

    Below 0.05 exactly when the 90 % interval with the same shift lies inside (Schuirmann 1987; Tango 1998). Missing
    labels count against equivalence.
    """
    from scipy.stats import norm

    most, least = found.most(), found.least()
    above = score(least.forth, least.back, least.n, -margin, shift)
    below = score(most.forth, most.back, most.n, margin, -shift)
    return float(max(norm.sf(above), norm.cdf(below)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values of one family (Holm 1979; statsmodels), in the same order."""
    return _adjusted(p_values, "holm")


def fdr_by(p_values: Sequence[float]) -> list[float]:
    """Benjamini-Yekutieli q-values (2001; statsmodels), in the same order: right under any dependence."""
    return _adjusted(p_values, "fdr_by")


def _adjusted(p_values: Sequence[float], method: str) -> list[float]:
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method=method)[1]] if p_values else []


def noise_floor(first: Mapping[str, str], second: Mapping[str, str]) -> Rate:
    """Prompts whose outcome differs between two runs of one condition: the change that a rerun alone makes."""
    same_prompts(first, second)
    return Rate(sum(first[i] != second[i] for i in first), len(first))
