"""Ratios of documents against scipy's paired t test, by hand, and in a small simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from refusalctl.errors import BadInput
from refusalctl.stats.ratios import Unit, changed_ratio, mean_limits


def test_with_equal_sizes_it_is_the_paired_t_interval() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(3, 1, 20), rng.normal(3.2, 1, 20)
    found = changed_ratio({str(i): Unit(a, b) for i, (a, b) in enumerate(zip(before, after, strict=True))})
    expected = ttest_rel(after, before).confidence_interval()
    assert found.n == 20
    assert found.difference == pytest.approx(after.mean() - before.mean())
    assert found.interval95 == pytest.approx((expected.low, expected.high))


def test_documents_weigh_by_their_size_and_those_of_one_cluster_are_one() -> None:
    units = {"a": Unit(10.0, 12.0, 5.0), "b": Unit(30.0, 30.0, 15.0), "c": Unit(4.0, 5.0, 2.0)}
    found = changed_ratio(units)
    assert (found.before, found.after) == pytest.approx((44 / 22, 47 / 22))
    # by hand: residuals change - d * size of 2 - 5d, -15d, 1 - 2d with d = 3/22; error = sd / sqrt(3) / (22/3)
    d = 3 / 22
    residuals = np.array([2 - 5 * d, -15 * d, 1 - 2 * d])
    reach = 4.302652729911275 * np.sqrt((residuals**2).sum() / 2 / 3) / (22 / 3)
    assert found.interval95 == pytest.approx((d - reach, d + reach))
    together = changed_ratio(units, {"a": "x", "b": "x"})
    assert together.difference == pytest.approx(d)
    assert together.interval95 != pytest.approx(found.interval95)
    assert changed_ratio(units, {"a": "x", "b": "x", "c": "x"}).interval95 is None  # one unit says nothing of others


def test_what_has_no_average_is_refused_and_no_number_is_made_up() -> None:
    for units in ({}, {"a": Unit(1.0, float("nan"))}, {"a": Unit(1.0, 2.0, 0.0)}):
        with pytest.raises(BadInput, match="have no average"):
            changed_ratio(units)
    assert mean_limits([0.3]) is None


def test_limits_of_a_mean_are_student_s_and_stay_above_what_is_least() -> None:
    values = [0.01, 0.02, 0.9]
    low, high = ttest_1samp(values, 0).confidence_interval()
    assert low < 0
    assert mean_limits(values) == pytest.approx((low, high))
    assert mean_limits(values, least=0.0) == pytest.approx((0.0, high))


def test_limits_hold_their_coverage_where_sizes_differ() -> None:
    rng, hits, runs = np.random.default_rng(1), 0, 400
    for _ in range(runs):
        sizes = rng.integers(20, 200, 25).astype(float)
        change = rng.normal(0.05, 0.2, 25) * sizes
        found = changed_ratio({str(i): Unit(3 * s, 3 * s + c, s) for i, (s, c) in enumerate(zip(sizes, change))})
        assert found.interval95 is not None
        hits += found.interval95.low <= 0.05 <= found.interval95.high
    assert 0.92 <= hits / runs <= 0.98
