"""Held-out AUROC: one half on noise, and high where the activations hold the answer although prompts are few."""

from __future__ import annotations

import numpy as np
import pytest

from refusalctl.errors import BadInput
from refusalctl.stats import held_out as stats


def few_prompts(rng: np.random.Generator, n: int, d: int, apart: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[2 n, 1, d] isotropic activations, harmful first and `apart` standard deviations further along one axis."""
    harmful = np.arange(2 * n) < n
    rows = rng.normal(size=(2 * n, 1, d))
    rows[harmful, 0, 0] += apart
    return rows, harmful, np.tile(np.arange(5), (2 * n) // 5 + 1)[: 2 * n]


def test_noise_has_an_area_of_one_half_within_folds_and_less_when_pooled() -> None:
    """Austin et al. 2025: what the held-out fold holds more of, the training part holds less of."""
    rng, within, pooled = np.random.default_rng(0), [], []
    for _ in range(40):
        rows, harmful, groups = few_prompts(rng, 20, 6, 0.0)
        groups = rng.permutation(groups)  # classes unbalanced between folds, as topics are
        scores, _layers = stats.held_out_scores(rows, harmful, groups)
        within.append(stats.auroc_within(scores, harmful, groups).value)
        pooled.append(stats.auroc(scores[harmful], scores[~harmful]).value)
    assert np.mean(within) == pytest.approx(0.5, abs=3 * float(np.std(within)) / 40**0.5)
    assert np.mean(pooled) < 0.47 < np.mean(within) - 0.01


def test_few_prompts_of_many_dimensions_pass_where_the_answer_is_there() -> None:
    """An oracle would have 0.99; 24 prompts per class in 576 dimensions cannot reach it, and must not fail for that."""
    rng, passed, value = np.random.default_rng(1), 0, []
    for _ in range(8):
        rows, harmful, groups = few_prompts(rng, 24, 576, 3.29)
        scores, _layers = stats.held_out_scores(rows, harmful, groups)
        found = stats.auroc_within(scores, harmful, groups)
        value.append(found.value)
        passed += found.value >= 0.7 and found.low > 0.5
    assert 0.7 < np.mean(value) < 0.95
    assert passed >= 6


def test_pairs_are_counted_within_folds_alone() -> None:
    scores = np.array([1.0, 0.0, 11.0, 10.0, 5.0])
    positive, folds = np.array([True, False, True, False, True]), np.array([0, 0, 1, 1, 2])
    found = stats.auroc_within(scores, positive, folds)
    assert (found.value, found.n_positive, found.n_negative) == (1.0, 3, 2)
    tied = stats.auroc_within(np.zeros(5), positive, folds)
    assert (tied.value, tied.low, tied.high) == (0.5, 0.5, 0.5)
    with pytest.raises(BadInput, match="both classes"):
        stats.auroc_within(scores, positive, np.arange(5))
    with pytest.raises(BadInput, match="finite"):
        stats.auroc_within(np.array([1.0, np.nan, 0.0, 0.0, 0.0]), positive, folds)


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(2)
    scores, positive = rng.normal(size=200), np.arange(200) < 100
    scores[positive] += 0.8
    one = stats.auroc_within(scores, positive, np.zeros(200, np.int64))
    plain = stats.auroc(scores[positive], scores[~positive])
    assert one.value == pytest.approx(plain.value)
    assert (one.low, one.high) == (pytest.approx(plain.low, abs=0.01), pytest.approx(plain.high, abs=0.01))
