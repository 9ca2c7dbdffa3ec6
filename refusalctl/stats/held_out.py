"""Can harmful prompts be told from harmless ones in a model's activations, on topics that were not trained on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refusalctl.errors import BadInput
from refusalctl.records.estimates import Auroc

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

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
        inner = [_inner(rows[train, layer], harmful[train], groups[train]) for layer in range(rows.shape[1])]
        layer = int(np.argmax(inner))
        layers.append(layer)
        scores[test] = _classifier().fit(rows[train, layer], harmful[train]).decision_function(rows[test, layer])
    return scores, layers


def _inner(rows: Array, harmful: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(len(np.unique(groups)))
    found = cross_val_predict(_classifier(), rows, harmful, groups=groups, cv=folds, method="decision_function")
    return float(roc_auc_score(harmful, found))


def _classifier() -> Pipeline:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


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
