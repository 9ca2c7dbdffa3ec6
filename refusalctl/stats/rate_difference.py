"""The difference of two rates on different prompts, such as refusals of harmful and of harmless ones."""

from __future__ import annotations

from collections.abc import Collection
from math import sqrt
from typing import NamedTuple

from refusalctl.records.estimates import Interval
from refusalctl.stats.rates import Rate


def newcombe(first: Rate, second: Rate, alpha: float = 0.05) -> Interval:
    """Hybrid score interval of first - second, independent (Newcombe 1998, Stat. in Medicine 17:873, method 10)."""
    value, one, other = first.value - second.value, first.wilson(alpha), second.wilson(alpha)
    below = sqrt((first.value - one.low) ** 2 + (other.high - second.value) ** 2)
    above = sqrt((one.high - first.value) ** 2 + (second.value - other.low) ** 2)
    return Interval(value - below, value + above)


class Difference(NamedTuple):
    """`value` among labelled answers, None where a side has none; limits with missing labels against either end."""

    value: float | None
    interval95: Interval
    interval90: Interval


def refusal_difference(harmful: Collection[str], harmless: Collection[str], outcome: str = "refusal") -> Difference:
    """Share of `outcome` among answers to harmful prompts minus that among harmless ones.

    A missing label (`unparsed`) is taken as no refusal of a harmful and a refusal of a harmless prompt for the lower
    limits, the other way round for the upper ones. Raises `BadInput` for a class without answers.
    """
    sides = [list(harmful), list(harmless)]
    sure = [side.count(outcome) for side in sides]
    missing = [side.count("unparsed") for side in sides]
    n = [len(side) for side in sides]
    least = Rate(sure[0], n[0]), Rate(sure[1] + missing[1], n[1])
    most = Rate(sure[0] + missing[0], n[0]), Rate(sure[1], n[1])
    low95, low90 = newcombe(*least).low, newcombe(*least, alpha=0.1).low
    high95, high90 = newcombe(*most).high, newcombe(*most, alpha=0.1).high
    known = [count - gone for count, gone in zip(n, missing, strict=True)]
    value = sure[0] / known[0] - sure[1] / known[1] if all(known) else None
    return Difference(value, Interval(low95, high95), Interval(low90, high90))
