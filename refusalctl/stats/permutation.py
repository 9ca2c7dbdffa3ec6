"""The p-value of a test by random draws."""

from jaxtyping import Float
from numpy import ndarray


def permutation_p(n_as_extreme: int, n_draws: int) -> float:
    """(b + 1) / (B + 1): `n_as_extreme` of `n_draws` draws under the null reach what was observed, which counts too.

    One-sided, never zero (Phipson and Smyth 2010, arXiv 1603.05766).
    """
    return (n_as_extreme + 1) / (n_draws + 1)


def p_at_least(observed: float, null: Float[ndarray, " draws"]) -> float:
    """Permutation p of a statistic that is large where there is an effect."""
    return permutation_p(int((null >= observed).sum()), len(null))
