"""What a number of prompts can show: the chance of a decision at a true effect, and the smallest effect that shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import sqrt

import numpy as np
import numpy.typing as npt

from refusalctl.errors import BadInput
from refusalctl.stats.paired import SHIFT

POWER = 0.8
EXACT = 400  # prompts up to which all counts are summed
LARGEST_N = 100_000
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def scores(forth: Array, back: Array, n: int, delta: float, shift: float = 0.0) -> Array:
    """`paired.score` over arrays of counts."""
    b = (2 * n - forth + back) * delta - forth - back
    share = (np.sqrt(np.maximum(b * b + 8 * n * back * delta * (1 - delta), 0.0)) - b) / (4 * n)
    spread = n * (2 * share + delta * (1 - delta))
    gap = forth - back - shift - n * delta
    sure = np.where(np.abs(gap) < 1e-12, 0.0, np.copysign(1e9, gap))
    return np.where(spread <= 1e-12, sure, gap / np.sqrt(np.maximum(spread, 1e-12)))


def exceeds(forth: Array, back: Array, n: int, delta: float, tail: float, shift: float = SHIFT) -> Mask:
    """Where the lower limit of a decision, at a one-sided level of `tail`, is above `delta`."""
    from scipy.stats import norm

    found: Mask = scores(forth, back, n, delta, shift) > norm.isf(tail)
    return found


def above(forth: Array, back: Array, n: int, margin: float, shift: float = SHIFT) -> Mask:
    """Where the lower 95 % limit of a decision is above the margin."""
    return exceeds(forth, back, n, margin, 0.025, shift)


def inside(forth: Array, back: Array, n: int, margin: float, shift: float = SHIFT) -> Mask:
    """Where the 90 % interval of a decision is inside (-margin, margin)."""
    return exceeds(back, forth, n, -margin, 0.05, shift) & exceeds(forth, back, n, -margin, 0.05, shift)


def counts(n: int, forth: float, back: float) -> tuple[Array, Array, Array]:
    """Numbers of moves forth and back, and their trinomial probability; numbers beyond reach (1e-12) are left out."""
    from scipy.stats import binom

    if n < 1 or forth < 0 or back < 0 or forth + back > 1 + 1e-12:
        raise BadInput(f"shares of {forth:g} forth and {back:g} back of {n} prompts cannot be")
    f = np.arange(binom.ppf(1e-12, n, forth), binom.isf(1e-12, n, forth) + 1)
    b = np.arange(binom.ppf(1e-12, n, back), binom.isf(1e-12, n, back) + 1)
    grid_f, grid_b = (grid.ravel() for grid in np.meshgrid(f, b))
    kept = grid_f + grid_b <= n
    grid_f, grid_b = grid_f[kept], grid_b[kept]
    given = min(back / (1 - forth), 1.0) if forth < 1 else 0.0
    return grid_f, grid_b, binom.pmf(grid_f, n, forth) * binom.pmf(grid_b, n - grid_f, given)


def chance_beyond(n: int, forth: float, back: float, delta: float, tail: float) -> float:
    """Chance that the lower limit of forth - back, at a one-sided level of `tail`, is above `delta` where these shares
    are true. Exact up to 400 prompts, beyond that by the normal approximation to the score."""
    if n <= EXACT:
        f, b, p = counts(n, forth, back)
        return float(p[exceeds(f, b, n, delta, tail)].sum())
    from scipy.stats import norm

    at = (2 * n - n * forth + n * back) * delta - n * (forth + back)
    share = (sqrt(max(at * at + 8 * n * n * back * delta * (1 - delta), 0.0)) - at) / (4 * n)
    supposed = sqrt(max(n * (2 * share + delta * (1 - delta)), 1e-12))
    true = sqrt(max(n * (forth + back - (forth - back) ** 2), 1e-12))
    return float(norm.cdf((n * (forth - back - delta) - SHIFT - norm.isf(tail) * supposed) / true))


def prompts_for(chance: Callable[[int], float], above_n: int, power: float = POWER) -> int | None:
    """The number of prompts, more than `above_n`, at which a chance that grows with it reaches `power`; None where
    100,000 do not reach it."""
    low, high = above_n, LARGEST_N
    if low >= high or chance(high) < power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high


def chance_of_transfer(n: int, effect: float, margin: float, back: float = 0.0) -> float:
    """Chance that the lower limit clears the margin where the true removed share is `effect`, `back` going the other
    way. Exact: a sum over all counts."""
    forth, backward, p = counts(n, effect + back, back)
    return float(p[above(forth, backward, n, margin)].sum())


@lru_cache(maxsize=256)
def detectable(n: int, margin: float, back: float = 0.0, power: float = POWER) -> float | None:
    """Smallest true removed share that n prompts show to be above the margin with this power; None where none is."""
    from scipy.optimize import brentq

    def gap(effect: float) -> float:
        return chance_of_transfer(n, effect, margin, back) - power

    most = 1 - 2 * back
    if most <= margin or gap(most) < 0:
        return None
    return float(brentq(gap, margin, most, xtol=1e-4))
