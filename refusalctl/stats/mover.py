"""Intervals for what two paired differences make together, from the interval of each (MOVER, square and add).

Variances are recovered from the limits of each difference (Zou and Donner 2008, Statistics in Medicine 27:1693;
Donner and Zou 2012, Statistical Methods in Medical Research 21:347), so that full removal and zero flips keep a width.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple

import numpy as np

from refusalctl.records.estimates import Estimate, Interval
from refusalctl.stats.paired import interval, moves, unit_of

WIDEST = 1e6


class Change(NamedTuple):
    """A paired difference with its interval, and the move of each prompt (-1, 0, 1) in the order of prompt ids."""

    value: float
    limits: Interval
    steps: list[int]


def change(
    before: Mapping[str, str],
    after: Mapping[str, str],
    origin: str = "refusal",
    goal: str = "compliance",
    clusters: Mapping[str, str] | None = None,
    *,
    possible: bool = False,
) -> Change:
    """Net share of prompts that moved from `origin` to `goal`. Raises `BadInput` unless both cover the same prompts.

    `possible`: every missing label and every lost origin counts as a move forth too.
    """
    found = moves(before, after, origin, goal, clusters)
    units = [unit_of(before[i], after[i], origin, goal) for i in sorted(before)]
    if not possible:
        return Change(found.difference, interval(found), [unit.net for unit in units])
    most = found.possibly_most()
    return Change(most.difference, interval(most), [unit.net + unit.perhaps for unit in units])


def correlation(first: Change, second: Change) -> float:
    """Of the moves of the same prompts; 0 where one condition moves all alike and none can be seen."""
    if len(set(first.steps)) < 2 or len(set(second.steps)) < 2:
        return 0.0
    return float(np.corrcoef(first.steps, second.steps)[0, 1])


def combined(first: Change, second: Change, factor: float, r: float) -> Interval:
    """Interval of first - factor * second, correlated by `r`."""
    low, high = (factor * second.limits.low, factor * second.limits.high)
    low, high = min(low, high), max(low, high)
    middle, value = factor * second.value, first.value - factor * second.value
    signed = r if factor >= 0 else -r

    def reach(a: float, b: float) -> float:
        return sqrt(max(a * a + b * b - 2 * signed * a * b, 0.0))

    return Interval(
        value - reach(first.value - first.limits.low, high - middle),
        value + reach(first.limits.high - first.value, middle - low),
    )


def difference(first: Change, second: Change, r: float | None = None) -> Estimate:
    """first - second on the same prompts: the difference in differences across languages or directions."""
    limits = combined(first, second, 1.0, correlation(first, second) if r is None else r)
    return Estimate(first.value - second.value, limits)


def ratio(first: Change, second: Change, r: float | None = None) -> Estimate | None:
    """first / second on the same prompts; None unless the lower limit of `second` is above zero.

    A supposed ratio is inside the interval where first - ratio * second may be zero (Donner and Zou 2012).
    """
    from scipy.optimize import brentq

    if second.limits.low <= 0:
        return None
    r = correlation(first, second) if r is None else r
    value = first.value / second.value

    def low(factor: float) -> float:
        return combined(first, second, factor, r).low

    def high(factor: float) -> float:
        return combined(first, second, factor, r).high

    reach = 1.0
    while (low(value - reach) < 0 or high(value + reach) > 0) and reach < WIDEST:
        reach *= 2
    if reach >= WIDEST:
        return None
    limits = Interval(float(brentq(low, value - reach, value)), float(brentq(high, value, value + reach)))
    return Estimate(value, limits)


class Part(NamedTuple):
    """An effect beside that of the target's own direction on the same prompts.

    `ratio` is that of the moves themselves, None where the own direction may do nothing. `possible` is that with every
    missing label and every lost origin counted as a move, `upper` its upper 95 % limit; `gap` is that effect minus half
    of the own one with its upper limit, `spread` the standard deviation of a prompt's part in it.
    """

    ratio: Estimate | None
    possible: float
    upper: float
    gap: float
    gap_upper: float
    spread: float
    n: int

    @property
    def below_half(self) -> bool:
        """Whether the upper 95 % limit of the possible ratio is below one half."""
        return self.gap_upper < 0

    def chance_below_half(self, n: int) -> float:
        """Chance that n prompts show this where it is true: normal, with the width that the interval has here."""
        from scipy.stats import norm

        reach = (self.gap_upper - self.gap) * sqrt(self.n / n)
        return float(norm.cdf((-self.gap - reach) / max(self.spread / sqrt(n), 1e-12)))


def part_of(
    before: Mapping[str, str],
    after: Mapping[str, str],
    native_after: Mapping[str, str],
    origin: str = "refusal",
    goal: str = "compliance",
    clusters: Mapping[str, str] | None = None,
) -> Part | None:
    """How much of the own direction's effect this one is; None where the own direction may do nothing."""
    own = change(before, native_after, origin, goal, clusters)
    this, possible = (change(before, after, origin, goal, clusters, possible=p) for p in (False, True))
    widest = ratio(possible, own)
    if widest is None:
        return None
    half = combined(possible, own, 0.5, correlation(possible, own))
    steps = np.array(possible.steps) - 0.5 * np.array(own.steps)
    gap = possible.value - 0.5 * own.value
    spread = float(np.std(steps))
    return Part(ratio(this, own), widest.value, widest.interval95.high, gap, half.high, spread, len(steps))
