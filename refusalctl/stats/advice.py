"""How many prompts would settle an open cell: at which number the same shares give a verdict with 80 % power."""

from __future__ import annotations

from typing import Literal

from refusalctl.stats.mover import Part
from refusalctl.stats.paired import SHIFT, Moves, interval, score_interval
from refusalctl.stats.power import chance_beyond, prompts_for

Aim = Literal["transfers", "reverses", "does not transfer"]


def prompts_needed(aim: Aim, found: Moves, part: Part | None, margin: float) -> int | None:
    """Prompts with which the shares of `found`, were they true, give the verdict `aim` in 80 % of experiments.

    Sums over all counts (`power.chance_beyond`). Where prompts repeat, each counts for as much as the width of the
    limits says. None where 100,000 would not do.
    """
    plain, wide = score_interval(found.forth, found.back, found.n, 0.05, SHIFT), interval(found, 0.05, SHIFT)
    each = min(1.0, ((plain.high - plain.low) / (wide.high - wide.low)) ** 2)
    start = int(each * found.n)
    needed = prompts_for(lambda n: chance(n, aim, found, part, margin), start)
    return None if needed is None else max(int(found.n) + 1, round(needed / each))


def chance(n: int, aim: Aim, found: Moves, part: Part | None, margin: float) -> float:
    """Chance of the verdict with n prompts. For "does not transfer" a lower bound: its conditions may fail together."""
    if aim == "transfers":
        return _beyond(n, found.least(), margin, 0.025)
    if aim == "reverses":
        return _beyond(n, _turned(found.most()), margin, 0.025)
    above, below = (
        _beyond(n, found.possibly_least(), -margin, 0.05),
        _beyond(n, _turned(found.possibly_most()), -margin, 0.05),
    )
    small = 1.0 if part is None else part.chance_below_half(n)
    return max(0.0, above + below + small - 2)


def _beyond(n: int, found: Moves, delta: float, tail: float) -> float:
    return chance_beyond(n, found.forth / found.n, found.back / found.n, delta, tail)


def _turned(found: Moves) -> Moves:
    return found._replace(forth=found.back, back=found.forth)
