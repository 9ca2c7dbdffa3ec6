"""Control draws beside the real direction in several cells at once: step-down max-T."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from refusalctl.errors import BadInput

TIE = 0.01  # log-odds; a smaller difference of two mean refusal scores is rounding, not an effect


def smallest_p(draws: int) -> float:
    """The least adjusted p that so many shared draws can give, in however many cells: 1 / (B + 1)."""
    if draws < 1:
        raise BadInput("without control directions there is no p-value")
    return 1 / (draws + 1)


def in_order(p: Sequence[float | None]) -> list[float]:
    """Adjusted p of cells that are tested in an order that was fixed before anything was seen: the largest so far.

    A cell stands only where all before it do, and then at its own p: the family-wise error stays below the level
    without any correction (Maurer, Hothorn and Lehmacher 1995; Westfall and Krishen 2001, J. Statistical Planning and
    Inference 99:25). None: nothing is known of a cell, so that none behind it stands.
    """
    return [float(each) for each in np.maximum.accumulate([1.0 if each is None else each for each in p])]


def step_down(real: Sequence[float], null: ArrayLike, tie: float = TIE) -> list[float]:
    """Adjusted p per cell, one-sided: that a control direction does as much as the real one does.

    `real` [n_cells] and `null` [n_draws, n_cells] are effects in one unit; a row of `null` is one draw in all cells, so
    that dependence between cells is kept. Each cell's effects are standardised by the mean and standard deviation of
    its draws and the real one together: under the null these n_draws + 1 are exchangeable, so the test is exact for
    one cell and for the global null (Westfall and Young 1993, algorithm 4.1; Romano and Wolf 2005, Econometrica
    73:1237; counted as in Phipson and Smyth 2010). A difference below `tie` reaches the real one. The largest of the
    cells' p-values is 1, the smallest 1 / (n_draws + 1) for any number of cells. Raises `BadInput` for no draws, no
    cells, or numbers that are not finite.
    """
    own, draws = np.asarray(real, float), np.asarray(null, float)
    if own.ndim != 1 or not own.size or draws.ndim != 2 or not len(draws) or draws.shape[1] != len(own):
        raise BadInput(f"{draws.shape} control effects do not fit {own.shape} real ones")
    if not np.isfinite(own).all() or not np.isfinite(draws).all():
        raise BadInput("effects of control directions are not finite")
    both = np.vstack([draws, own])
    scale = np.maximum(both.std(0, ddof=1), tie)  # all alike: nothing beyond rounding is an effect
    t_null, t_real = (draws - both.mean(0)) / scale, (own - both.mean(0)) / scale
    adjusted, worst = np.ones(len(own)), np.full(len(draws), -np.inf)
    order = np.argsort(-t_real, kind="stable")
    for cell in order[::-1]:  # successive maxima, from the least significant cell up
        worst = np.maximum(worst, t_null[:, cell])
        adjusted[cell] = (1 + int((worst > t_real[cell] - tie / scale[cell]).sum())) / (len(draws) + 1)
    adjusted[order] = np.maximum.accumulate(adjusted[order])
    return [float(p) for p in adjusted]
