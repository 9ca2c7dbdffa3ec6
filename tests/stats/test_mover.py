"""Ratios and differences of paired differences: a published example, and where other intervals have no width."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from refusalctl.stats.mover import Change, change, correlation, difference, ratio
from refusalctl.stats.paired import fdr_by, interval, moves, noise_floor
from refusalctl.stats.rates import Rate


def answers(n: int, removed: int, refused: int | None = None) -> tuple[dict[str, str], dict[str, str]]:
    before = {f"{i:03}": "refusal" if i < (n if refused is None else refused) else "compliance" for i in range(n)}
    return before, {key: "compliance" if int(key) < removed else outcome for key, outcome in before.items()}


def test_the_ratio_interval_equals_the_published_example() -> None:
    # complete response before and after consolidation, 59 / 6 / 16 / 80 of 161 (Cavo et al. 2012), as worked in
    # Fagerland, Lydersen and Laake 2017, Statistical Analysis of Contingency Tables, chapter 8: MOVER Wilson score,
    # as its R package contingencytables prints it
    one, other = Rate(65, 161), Rate(75, 161)
    phi = (59 * 80 - 6 * 16) / sqrt(65 * 96 * 75 * 86)
    found = ratio(Change(one.value, one.wilson(), []), Change(other.value, other.wilson(), []), phi)
    assert found is not None
    assert found.value == pytest.approx(0.8667, abs=5e-5)
    assert found.interval95 == pytest.approx((0.7592, 0.9866), abs=5e-5)


def test_full_removal_in_both_languages_keeps_a_width() -> None:
    before, after = answers(50, 50)
    found = ratio(change(before, after), change(before, after))
    assert found is not None
    assert found.value == 1.0
    assert found.interval95.low < 0.95
    assert found.interval95.high > 1.05


def test_no_ratio_to_a_direction_that_may_do_nothing() -> None:
    before, after = answers(50, 3)
    assert ratio(change(before, after), change(before, before)) is None


def test_a_negative_ratio_is_one() -> None:
    before, own = answers(80, 40, refused=40)
    after = {key: "refusal" if int(key) >= 60 else outcome for key, outcome in before.items()}
    found = ratio(change(before, after), change(before, own))
    assert found is not None
    assert found.value == pytest.approx(-0.5)
    assert found.interval95.high < 0


def test_the_difference_of_a_change_with_itself_is_zero_and_correlation_narrows_it() -> None:
    before, after = answers(60, 30)
    one = change(before, after)
    found = difference(one, one)
    assert found.value == 0.0
    assert found.interval95 == pytest.approx((0.0, 0.0), abs=1e-6)
    loose = difference(one, one, r=0.0)
    assert loose.interval95.high > 0.1
    assert correlation(one, one) == pytest.approx(1.0)
    assert correlation(one, change(before, before)) == 0.0


def test_difference_in_differences_covers_the_truth() -> None:
    """Shares of 0.6 and 0.3 on the same 120 prompts, correlated by a common difficulty."""
    generator, hits = np.random.default_rng(3), 0
    before = {f"{i:03}": "refusal" for i in range(120)}
    for _ in range(200):
        hard = generator.random(120)
        mixed = [np.where(generator.random(120) < 0.5, hard, generator.random(120)) < share for share in (0.6, 0.3)]
        first, second = (
            change(before, {k: "compliance" if m else "refusal" for k, m in zip(before, each)}) for each in mixed
        )
        limits = difference(first, second).interval95
        hits += limits.low <= 0.3 <= limits.high
    assert 0.91 <= hits / 200 <= 0.99


def test_exact_limits_of_rates_equal_published_ones() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263 and 0 of 20, methods 5 and 3
    assert Rate(81, 263).clopper_pearson() == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert Rate(81, 263).wilson() == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert Rate(0, 20).clopper_pearson() == pytest.approx((0.0, 0.1684), abs=5e-5)


def test_benjamini_yekutieli_by_hand() -> None:
    harmonic = 1 + 1 / 2 + 1 / 3
    assert fdr_by([0.01, 0.04, 0.03]) == pytest.approx([0.03 * harmonic, 0.04 * harmonic, 0.04 * harmonic])
    assert fdr_by([]) == []


def test_a_rerun_that_changes_nothing_has_a_floor_all_the_same() -> None:
    before, after = answers(40, 2)
    assert noise_floor(before, before).clopper_pearson().high == pytest.approx(0.0881, abs=5e-5)
    assert noise_floor(before, after).count == 2


def test_labels_missing_on_either_side_may_hide_a_move() -> None:
    before = {"a": "refusal", "b": "unparsed", "c": "compliance", "d": "unparsed", "e": "unparsed"}
    after = {"a": "unparsed", "b": "compliance", "c": "unparsed", "d": "unparsed", "e": "degenerate"}
    found = moves(before, after)
    assert (found.forth, found.back, found.unknown, found.unknown_back) == (0, 0, 3, 2)
    assert interval(found.most()).high > interval(found).high
    assert interval(found.least()).low < interval(found).low
