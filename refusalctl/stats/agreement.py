"""Two sets of labels on the same prompts: how far apart, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from refusalctl.errors import BadInput


class Paired(NamedTuple):
    """A 2 x 2 table of one yes/no outcome on the same prompts, its difference in shares with 95 % limits, and p.

    `difference` is second minus first. Limits: Newcombe's score interval for paired proportions (Newcombe 1998,
    Statistics in Medicine 17, 2635, method 10; no library at hand has it); p: exact McNemar, two-sided (McNemar 1947; statsmodels).
    """

    both: int
    first: int
    second: int
    neither: int
    difference: float
    low: float
    high: float
    p: float


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Raises `BadInput` unless both hold the same number of prompts, and any at all."""
    from statsmodels.stats.contingency_tables import mcnemar

    if len(first) != len(second) or not first:
        raise BadInput(f"paired outcomes must be of the same prompts, found {len(first)} and {len(second)}")
    moves = list(zip(first, second))
    a, b, c = moves.count((True, True)), moves.count((True, False)), moves.count((False, True))
    d, n = len(moves) - a - b - c, len(moves)
    low, high = _newcombe(a, b, c, d)
    p = float(mcnemar([[a, b], [c, d]], exact=True).pvalue) if b + c else 1.0
    return Paired(a, b, c, d, (c - b) / n, low, high, min(p, 1.0))


def _newcombe(a: int, b: int, c: int, d: int) -> tuple[float, float]:
    """Limits of (a + c) / n - (a + b) / n from two Wilson intervals and the correlation phi between them."""
    from statsmodels.stats.proportion import proportion_confint

    n = a + b + c + d
    one, two = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = (proportion_confint(k, n, method="wilson") for k in (a + b, a + c))
    spread = (a + b) * (c + d) * (a + c) * (b + d)
    product = a * d - b * c
    above_chance = max(product - n / 2, 0) if product > 0 else product  # a positive correlation is corrected down
    phi = above_chance / spread**0.5 if spread else 0.0
    below = ((two - l2) ** 2 - 2 * phi * (two - l2) * (u1 - one) + (u1 - one) ** 2) ** 0.5
    above = ((u2 - two) ** 2 - 2 * phi * (u2 - two) * (one - l1) + (one - l1) ** 2) ** 0.5
    return max(-1.0, two - one - below), min(1.0, two - one + above)


def kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa over all outcomes (Cohen 1960; scikit-learn); None where both know one outcome only."""
    from sklearn.metrics import cohen_kappa_score

    if len({*first, *second}) < 2:
        return None
    found: Any = cohen_kappa_score(first, second)
    return float(found)
