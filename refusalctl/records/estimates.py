"""Numbers with their limits."""

from __future__ import annotations

from typing import NamedTuple

from refusalctl.records.record import Part


class Interval(NamedTuple):
    low: float
    high: float


class Estimate(Part, frozen=True):
    value: float
    interval95: Interval
