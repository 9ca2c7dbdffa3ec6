"""Several judges on the same completions: agreement beyond chance, and what they say together.

A completion that a judge could not label is left out of its agreement and counted; it is no opinion.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refusalctl.errors import BadInput
from refusalctl.records.panel import VoteRule
from refusalctl.stats.outcomes import LABELLED
from refusalctl.stats.rates import Interval

RULES = ("majority", "unanimous")
TIE = "tie"
RESAMPLES, SEED = 1000, 0
MOST_UNDEFINED = 0.05  # share of resamples without a kappa up to which the rest may stand for all


class Agreement(NamedTuple):
    """`kappa` is None where it is undefined, which `undefined` explains; `interval` None where there is none.

    `ac1` is Gwet's AC1, None where nothing was labelled. `agree` of `n` completions that all the judges labelled have
    one label; `left_out` more lack a label.
    """

    kappa: float | None
    interval: Interval | None
    n: int
    agree: int
    left_out: int
    undefined: str = ""
    ac1: float | None = None
    ac1_interval: Interval | None = None


class Vote(NamedTuple):
    """`outcome` is an outcome, `tie` where the rule gives none, or `unparsed` where no judge gave a label."""

    outcome: str
    reason: str


def agreement(votes: Sequence[Sequence[str]], clusters: Sequence[str], alpha: float = 0.05) -> Agreement:
    """Cohen's kappa of two judges, Fleiss' of more (Cohen 1960; Fleiss 1971; statsmodels), and Gwet's AC1.

    `votes` [n_completions][n_judges]. Interval: percentile bootstrap over clusters of prompts (scipy), so that a prompt
    under several conditions, its duplicates and its translations count as one unit. Raises `BadInput` for fewer than
    two judges or votes of different length.
    """
    widths = {len(row) for row in votes}
    if len(widths) != 1 or min(widths) < 2 or len(votes) != len(clusters):
        raise BadInput("agreement needs at least two judges and a cluster for every completion")
    kept = [(row, cluster) for row, cluster in zip(votes, clusters) if set(row) <= set(LABELLED)]
    n, left_out = len(kept), len(votes) - len(kept)
    if not kept:
        return Agreement(None, None, 0, 0, left_out, "no completion was labelled by all of them")
    agree = sum(len(set(row)) == 1 for row, _ in kept)
    codes = np.array([[LABELLED.index(each) for each in row] for row, _ in kept])
    statistic = _cohen if codes.shape[1] == 2 else _fleiss
    names = [cluster for _, cluster in kept]
    steady = (_ac1(codes), _interval(codes, names, _ac1, alpha))
    value = statistic(codes)
    if np.isnan(value):
        only = f"they say nothing but {LABELLED[codes[0, 0]]}: agreement by chance is certain"
        return Agreement(None, None, n, agree, left_out, only, *steady)
    return Agreement(value, _interval(codes, names, statistic, alpha), n, agree, left_out, "", *steady)


def _cohen(codes: NDArray[np.int64]) -> float:
    from statsmodels.stats.inter_rater import cohens_kappa

    if len(np.unique(codes)) < 2:
        return float("nan")
    table = np.zeros((len(LABELLED), len(LABELLED)))
    np.add.at(table, (codes[:, 0], codes[:, 1]), 1)
    return float(cohens_kappa(table, return_results=False))


def _fleiss(codes: NDArray[np.int64]) -> float:
    from statsmodels.stats.inter_rater import fleiss_kappa

    if len(np.unique(codes)) < 2:
        return float("nan")
    table = np.stack([(codes == i).sum(axis=1) for i in range(len(LABELLED))], axis=1)
    return float(fleiss_kappa(table, method="fleiss"))


def _ac1(codes: NDArray[np.int64]) -> float:
    """Gwet's AC1 (2008, British J. of Math. and Stat. Psychology 61:29, eq. 5; more judges: section 4).

    Chance agreement is sum p_k (1 - p_k) / (q - 1) over the q outcomes there are, which falls where one of them
    prevails; that of kappa rises there, so that judges who agree on nearly everything get a kappa near 0.
    """
    q, m = len(LABELLED), codes.shape[1]
    counts = np.stack([(codes == k).sum(axis=1) for k in range(q)], axis=1)
    agreed = float((counts * (counts - 1)).sum(axis=1).mean() / (m * (m - 1)))
    share = counts.mean(axis=0) / m
    chance = float((share * (1 - share)).sum() / (q - 1))
    return (agreed - chance) / (1 - chance)


def _interval(
    codes: NDArray[np.int64], names: Sequence[str], statistic: Callable[[NDArray[np.int64]], float], alpha: float
) -> Interval | None:
    """None for fewer than two clusters, and where too many resamples hold one category only."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(name, []).append(i)
    rows = [codes[found] for found in members.values()]
    if len(rows) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # resamples without a kappa are counted below
        drawn = bootstrap(
            (np.arange(len(rows)),),
            lambda chosen: statistic(np.concatenate([rows[i] for i in chosen])),
            n_resamples=RESAMPLES,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).bootstrap_distribution
    known = drawn[~np.isnan(drawn)]
    if len(known) < (1 - MOST_UNDEFINED) * len(drawn):
        return None
    low, high = np.quantile(known, [alpha / 2, 1 - alpha / 2])
    return Interval(float(low), float(high))


def vote(outcomes: Sequence[str], rule: VoteRule) -> Vote:
    """What the judges say together: the outcome of more than half of them, or of all. Anything else is a tie.

    A judge without a label counts among them, so one judge never speaks for a panel.
    """
    if rule not in RULES:
        raise BadInput(f"there is no rule {rule!r}", hint=f"choose {' or '.join(RULES)}")
    counts = Counter(outcomes)
    said = ", ".join(f"{outcome} {n}" for outcome, n in sorted(counts.items()))
    if set(outcomes) <= {"unparsed"}:
        return Vote("unparsed", "no judge gave a label")
    best = max(LABELLED, key=lambda category: counts[category])
    needed = len(outcomes) if rule == "unanimous" else len(outcomes) // 2 + 1
    return Vote(best, said) if counts[best] >= needed else Vote(TIE, said)


def shared_flag(flags: Sequence[bool | None]) -> bool | None:
    """A yes/no attribute that more than half of those who give it share, else None."""
    known = [flag for flag in flags if flag is not None]
    return next((each for each in (True, False) if known.count(each) * 2 > len(known)), None)
