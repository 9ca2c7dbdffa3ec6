"""Can harmful prompts be told from harmless ones in a model's activations, on topics that were not trained on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refusalctl.errors import BadInput
from refusalctl.records.estimates import Auroc

Array = NDArray[np.float64]
TOPICS = 5
MIN_PER_CLASS = 15
RESAMPLES = 2000


def auroc(positive: Sequence[float] | Array, negative: Sequence[float] | Array, seed: int = 0) -> Auroc:
    """Share of (positive, negative) pairs in order, ties half. Raises `BadInput` for an empty class or NaN."""
    from scipy.stats import bootstrap, rankdata
    from sklearn.metrics import roc_auc_score

    a, b = np.asarray(positive, float), np.asarray(negative, float)
    if not len(a) or not len(b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise BadInput("an AUROC needs finite scores of both classes")

    def area(x: Array, y: Array, axis: int = -1) -> Array:  # Mann-Whitney U over pairs, all resamples at once
        m, n = x.shape[axis], y.shape[axis]
        ranks = rankdata(np.concatenate([x, y], axis=axis), axis=axis)
        area: Array = (np.take(ranks, range(m), axis=axis).sum(axis) - m * (m + 1) / 2) / (m * n)
        return area

    value = float(roc_auc_score([1] * len(a) + [0] * len(b), np.concatenate([a, b])))
    if min(len(a), len(b)) < 2:
        return Auroc(value, 0.0, 1.0, len(a), len(b))
    found = bootstrap(
        (a, b), area, vectorized=True, n_resamples=RESAMPLES, method="percentile", random_state=seed
    ).confidence_interval
    return Auroc(value, float(found.low), float(found.high), len(a), len(b))


def auroc_within(
    scores: Sequence[float] | Array, positive: NDArray[np.bool_], folds: NDArray[np.int64], seed: int = 0
) -> Auroc:
    """Mean over folds, weighted by pairs, of the share of (positive, negative) pairs in order; ties half.

    Scores of one fold come from one fit and are compared with each other alone. Pooled over folds they are biased below
    one half where there is nothing to find: what a fold holds more of, its training part holds less of (Airola et al.
    2011, Computational Statistics & Data Analysis 55:1828; Austin et al. 2025, arXiv 2406.01652). The interval is a
    percentile bootstrap over the prompts of each class and fold. Raises `BadInput` where no fold has both classes, or
    for NaN.
    """
    from scipy.stats import rankdata

    values, rng = np.asarray(scores, float), np.random.default_rng(seed)
    if not np.isfinite(values).all():
        raise BadInput("an AUROC needs finite scores of both classes")
    areas, weights, drawn = [], [], []
    for fold in np.unique(folds):
        a, b = values[(folds == fold) & positive], values[(folds == fold) & ~positive]
        m, n = len(a), len(b)
        if m and n:
            again = [x[rng.integers(len(x), size=(RESAMPLES, len(x)))] for x in (a, b)]
            rows = np.concatenate([np.vstack([x[None], y]) for x, y in zip((a, b), again, strict=True)], axis=1)
            ranks = rankdata(rows, axis=1)[:, :m].sum(1)
            area = (ranks - m * (m + 1) / 2) / (m * n)
            areas.append(area[0])
            drawn.append(area[1:])
            weights.append(m * n)
    if not areas:
        raise BadInput("an AUROC needs a fold with prompts of both classes")
    low, high = np.quantile(np.average(drawn, axis=0, weights=weights), [0.025, 0.975])
    value = float(np.average(areas, weights=weights))
    return Auroc(value, float(low), float(high), int(positive.sum()), int((~positive).sum()))


def topics(texts: Sequence[str], n: int = TOPICS, seed: int = 0) -> NDArray[np.int64]:
    """A topic number per text: k-means of TF-IDF word vectors. Texts of one class; classes differ in topic anyway."""
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+").fit_transform(texts)
    labels: NDArray[np.int64] = KMeans(n, n_init=10, random_state=seed).fit_predict(words).astype(np.int64)
    return labels


def paired_topics(harmful: Sequence[str], harmless: Sequence[str], n: int = TOPICS) -> NDArray[np.int64]:
    """Groups for cross-validation, harmful texts first: each holds one topic of either class.

    So a held-out fold is new in topic on both sides. Topics are paired by size, to keep folds even.
    """
    groups = []
    for texts in (harmful, harmless):
        found = topics(texts, n)
        by_size = np.argsort(-np.bincount(found, minlength=n), kind="stable")
        groups.append(np.argsort(by_size)[found])
    return np.concatenate(groups)


def held_out_scores(rows: Array, harmful: NDArray[np.bool_], groups: NDArray[np.int64]) -> tuple[Array, list[int]]:
    """Log-odds of every prompt from a logistic regression that saw none of its topics, and each fold's layer.

    `rows` [n_prompts, n_layers, d_model]. The layer is chosen inside each training part, by the same grouped
    cross-validation, so that the best of many layers is not taken for what one layer knows.
    """
    from sklearn.model_selection import GroupKFold

    scores, layers = np.full(len(rows), np.nan), []
    for train, test in GroupKFold(len(np.unique(groups))).split(rows, harmful, groups):
        layer = 0
        if rows.shape[1] > 1:
            inner = [_inner(rows[train, at], harmful[train], groups[train]) for at in range(rows.shape[1])]
            layer = int(np.argmax(inner))
        layers.append(layer)
        scores[test] = log_odds(rows[train, layer], harmful[train], rows[test, layer])
    return scores, layers


def _inner(rows: Array, harmful: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    """Mean AUROC within held-out topics; a topic without one of the classes has none and does not count."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    areas, weights = [], []
    for train, test in GroupKFold(len(np.unique(groups))).split(rows, harmful, groups):
        pairs = int(harmful[test].sum() * (~harmful[test]).sum())
        if pairs:
            found = log_odds(rows[train], harmful[train], rows[test])
            areas.append(float(roc_auc_score(harmful[test], found)))
            weights.append(pairs)
    return float(np.average(areas, weights=weights))


def log_odds(rows: Array, harmful: NDArray[np.bool_], asked: Array) -> Array:
    """Of `asked`, by a logistic regression (L2, C = 0.1) on `rows`, each feature in units of its spread within classes.

    Spread over both classes together would shrink the very features that tell them apart: of isotropic activations in
    576 dimensions that an oracle tells apart with 0.99, 24 per class then give 0.66, and 0.80 in these units.
    """
    from sklearn.linear_model import LogisticRegression

    within = sum(((rows[kind] - rows[kind].mean(0)) ** 2).sum(0) for kind in (harmful, ~harmful))
    spread = np.sqrt(within / max(len(rows) - 2, 1))
    spread[spread == 0] = 1.0
    centre = rows.mean(0)
    fitted = LogisticRegression(C=0.1, max_iter=1000).fit((rows - centre) / spread, harmful)
    found: Array = fitted.decision_function((asked - centre) / spread)
    return found


@dataclass(frozen=True)
class AnswerMatch:
    """Mean share of other questions that an answer resembles less than its own, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


def answer_match(questions: Sequence[str], answers: Sequence[str], seed: int = 0) -> AnswerMatch | None:
    """Whether answers resemble their own questions more than others' (`char-ngram-match`), or None under 5 pairs.

    By TF-IDF cosine of character 3- to 5-grams; ties count half, so 0.5 is chance. A cheap proxy: it sees shared
    words and stems, not sense, and rewards an answer that only repeats its question.
    """
    from scipy.stats import bootstrap
    from sklearn.feature_extraction.text import TfidfVectorizer

    if len(questions) < 5:
        return None
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit([*questions, *answers])
    likeness = (grams.transform(answers) @ grams.transform(questions).T).toarray()
    own = likeness.diagonal()[:, None]
    below, ties = (likeness < own).sum(1), (likeness == own).sum(1) - 1
    share = (below + ties / 2) / (len(questions) - 1)
    if np.ptp(share) == 0:
        return AnswerMatch(float(share[0]), float(share[0]), float(share[0]), len(share))
    found = bootstrap((share,), np.mean, method="percentile", n_resamples=RESAMPLES, random_state=seed)
    limits = found.confidence_interval
    return AnswerMatch(float(share.mean()), float(limits.low), float(limits.high), len(share))
