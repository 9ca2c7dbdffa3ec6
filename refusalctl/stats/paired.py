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
    """Prompts that count as one (copies of a text): how many, their net moves, and what may be a move beside them:

    `unknown` and `unknown_back` by missing labels alone, `perhaps` and `perhaps_back` by lost outcomes as well.
    """

    size: int
    net: int
    unknown: int
    unknown_back: int
    perhaps: int = 0
    perhaps_back: int = 0


class Moves(NamedTuple):
    """Prompts that went forth (refusal to compliance, say) and back, of `n`.

    `unknown` and `unknown_back` count prompts whose missing label may hide a move forth, or back. `perhaps` counts
    these and all whose origin was lost to something that is no goal either (degenerate, another language);
    `perhaps_back` these and all that came to the origin from such an answer. `units` holds groups of prompts that count
    as one, None where every prompt is one of its own.
    """

    forth: float
    back: float
    unknown: float
    n: float
    units: tuple[Unit, ...] | None = None
    unknown_back: float = 0
    perhaps: float = 0
    perhaps_back: float = 0

    @property
    def difference(self) -> float:
        return (self.forth - self.back) / self.n

    def most(self) -> Moves:
        """Every missing label taken as a move forth."""
        return self._with(self.unknown, 0, "unknown", 1)

    def least(self) -> Moves:
        """Every missing label taken as a move back."""
        return self._with(0, self.unknown_back, "unknown_back", -1)

    def possibly_most(self) -> Moves:
        """Every missing label and every lost origin taken as a move forth."""
        return self._with(self.perhaps, 0, "perhaps", 1)

    def possibly_least(self) -> Moves:
        """Every missing label, and every origin that came from something unusable, taken as a move back."""
        return self._with(0, self.perhaps_back, "perhaps_back", -1)

    def _with(self, forth: float, back: float, name: str, sign: int) -> Moves:
        units = self.units and tuple(u._replace(net=u.net + sign * getattr(u, name)) for u in self.units)
        return self._replace(forth=self.forth + forth, back=self.back + back, units=units)


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
        groups.setdefault((clusters or {}).get(i) or i, []).append(unit_of(before[i], after[i], origin, goal))
    units = tuple(Unit(*(sum(column) for column in zip(*group, strict=True))) for group in groups.values())
    pairs = Counter((before[i], after[i]) for i in before)
    total = Unit(*(sum(column) for column in zip(*units, strict=True)))
    return Moves(
        pairs[origin, goal],
        pairs[goal, origin],
        total.unknown,
        len(before),
        units if len(units) < len(before) else None,
        total.unknown_back,
        total.perhaps,
        total.perhaps_back,
    )


def lost(before: Mapping[str, str], after: Mapping[str, str], origin: str = "refusal") -> int:
    """Prompts that had `origin` and have any other label now; a missing label is no other label."""
    same_prompts(before, after)
    return sum(before[i] == origin and after[i] not in (origin, "unparsed") for i in before)


def unit_of(before: str, after: str, origin: str = "refusal", goal: str = "compliance") -> Unit:
    """One prompt. A label that is missing may stand for either outcome that it would take to move."""

    def may(start: str, end: str) -> bool:
        hidden = "unparsed" in (before, after)
        return hidden and before in (start, "unparsed") and after in (end, "unparsed")

    def elsewhere(outcome: str) -> bool:
        return outcome not in (origin, goal, "unparsed")

    net = int((before, after) == (origin, goal)) - int((before, after) == (goal, origin))
    unknown, unknown_back = may(origin, goal), may(goal, origin)
    gone = before in (origin, "unparsed") and elsewhere(after)
    came = elsewhere(before) and after in (origin, "unparsed")
    return Unit(1, net, int(unknown), int(unknown_back), int(unknown or gone), int(unknown_back or came))


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
    labels and lost origins count against equivalence.
    """
    from scipy.stats import norm

    most, least = found.possibly_most(), found.possibly_least()
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
