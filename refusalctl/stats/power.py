"""What a number of prompts can show: the chance of a decision at a true effect, and the smallest effect that shows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from refusalctl.errors import BadInput
from refusalctl.stats.paired import SHIFT

POWER = 0.8
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


def above(forth: Array, back: Array, n: int, margin: float, shift: float = SHIFT) -> Mask:
    """Where the lower 95 % limit of a decision is above the margin."""
    from scipy.stats import norm

    found: Mask = scores(forth, back, n, margin, shift) > norm.isf(0.025)
    return found


def inside(forth: Array, back: Array, n: int, margin: float, shift: float = SHIFT) -> Mask:
    """Where the 90 % interval of a decision is inside (-margin, margin)."""
    from scipy.stats import norm

    z = norm.isf(0.05)
    found: Mask = (scores(forth, back, n, margin, -shift) < -z) & (scores(forth, back, n, -margin, shift) > z)
    return found


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
