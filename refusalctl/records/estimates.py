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


class Auroc(Part, frozen=True):
    """Area under the ROC curve with a 95 % percentile bootstrap interval over prompts, classes resampled apart."""

    value: float
    low: float
    high: float
    n_positive: int
    n_negative: int
