"""How far two sets of labels on the same completions agree."""

from __future__ import annotations

from collections.abc import Sequence


def kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa over all outcomes (Cohen 1960; scikit-learn); None where both know one outcome only."""
    from sklearn.metrics import cohen_kappa_score

    if len({*first, *second}) < 2:
        return None
    return float(cohen_kappa_score(first, second))
