"""Averages whose units weigh differently (nats per token over documents), and their paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, isfinite, sqrt
from typing import NamedTuple

from refusalctl.errors import BadInput
from refusalctl.records.estimates import Interval


class RatioChange(NamedTuple):
    """Before, after and their difference, in the unit of the amounts over that of the sizes. `interval95` is of the
    difference; None for fewer than two units, which say nothing of how units vary."""

    n: int
    before: float
    after: float
    difference: float
    interval95: Interval | None


class Unit(NamedTuple):
    """What counts as one: an amount before and after, and the size that both are divided by."""

    before: float
    after: float
    size: float = 1.0


def changed_ratio(units: Mapping[str, Unit], clusters: Mapping[str, str] | None = None) -> RatioChange:
    """Sum of amounts over sum of sizes, before and after, and the paired difference.

    The limits are those of a ratio estimator: a unit's residual is its change minus difference times size, their
    standard deviation over the mean size is the error, with Student's t at one degree of freedom less than there are
    units (Cochran 1977, Sampling Techniques, section 6.4). With sizes of 1 that is the paired t interval. `clusters`:
    units of the same cluster count as one. Raises `BadInput` for no units, or an amount that is no number.
    """
    groups: dict[str, list[Unit]] = {}
    for i, unit in units.items():
        groups.setdefault((clusters or {}).get(i) or i, []).append(unit)
    summed = [Unit(*(fsum(column) for column in zip(*group, strict=True))) for group in groups.values()]
    size = fsum(unit.size for unit in summed)
    if not summed or size <= 0 or not all(isfinite(value) for unit in summed for value in unit):
        raise BadInput(f"{len(units)} measurements of total size {size:g}, or one that is no number, have no average")
    before, after = (fsum(getattr(unit, side) for unit in summed) / size for side in ("before", "after"))
    found = RatioChange(len(units), before, after, after - before, None)
    return found._replace(interval95=_limits(summed, after - before, size))


def mean_limits(values: Sequence[float], least: float | None = None) -> Interval | None:
    """Student's 95 % limits of a mean, not below `least` where it cannot be; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = fsum(values) / len(values)
    found = _limits([Unit(0.0, value) for value in values], mean, float(len(values)))
    return found if least is None else Interval(max(found.low, least), found.high)  # type: ignore[union-attr]


def _limits(units: Sequence[Unit], ratio: float, size: float) -> Interval | None:
    from scipy.stats import t

    n = len(units)
    if n < 2:
        return None
    squares = fsum((unit.after - unit.before - ratio * unit.size) ** 2 for unit in units)
    error = sqrt(squares / (n - 1) / n) / (size / n)
    reach = float(t.isf(0.025, n - 1)) * error
    return Interval(ratio - reach, ratio + reach)
