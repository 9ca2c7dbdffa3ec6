"""Paired intervals against published worked examples, and where other intervals fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusalctl.errors import BadInput
from refusalctl.stats.paired import Moves, holm, interval, mcnemar_p, moves, score_interval


def test_the_score_interval_equals_the_published_example() -> None:
    # airway hyper-responsiveness before and after transplantation, 1 / 1 / 7 / 12 of 21 children (Bentur et al. 2009),
    # as worked in Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33:2850), Tango's interval
    low, high = score_interval(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_score_intervals_equal_those_of_another_library(shift: float) -> None:
    """evalstats solves a quartic (Chang et al. 2024, J. Applied Statistics 51:139, eq. 4-5); here roots are searched.

    Its correction `c` is the number of prompts by which limits of a decision stand further out here.
    """
    from evalstats.core.resampling import tango_scc_paired_ci

    for n, forth, back in ((21, 1, 7), (8, 0, 1), (12, 3, 3), (16, 9, 0), (24, 5, 2), (40, 39, 0), (64, 20, 31)):
        before = [1] * forth + [0] * back + [1] * (n - forth - back)
        after = [0] * forth + [1] * back + [1] * (n - forth - back)
        expected = tango_scc_paired_ci(np.array(before), np.array(after), 0.05, c=shift)
        assert score_interval(forth, back, n, shift=shift) == pytest.approx(expected, abs=1e-6), (n, forth, back)


def test_no_flips_and_full_removal_keep_a_width() -> None:
    low, high = score_interval(0, 0, 50)
    assert low == pytest.approx(-high)
    assert 0.06 < high < 0.08
    low, high = score_interval(48, 0, 48)
    assert high == 1.0
    assert 0.8 < low < 0.9


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_the_interval_holds_its_estimate_mirrors_and_narrows(forth: int, back: int, rest: int) -> None:
    n = forth + back + rest
    if n == 0:
        return
    low, high = score_interval(forth, back, n)
    assert low <= (forth - back) / n + 1e-9
    assert high >= (forth - back) / n - 1e-9
    mirrored = score_interval(back, forth, n)
    assert mirrored.low == pytest.approx(-high, abs=1e-6)
    assert mirrored.high == pytest.approx(-low, abs=1e-6)
    wide, narrow = score_interval(forth, back, n, 0.05), score_interval(forth, back, n, 0.1)
    assert wide.low <= narrow.low + 1e-9
    assert narrow.high <= wide.high + 1e-9


def test_impossible_counts_are_refused() -> None:
    for forth, back, n in ((3, 3, 5), (-1, 0, 5), (0, 0, 0)):
        with pytest.raises(BadInput, match="cannot be"):
            score_interval(forth, back, n)


def test_moves_are_counted_by_prompt_and_missing_labels_apart() -> None:
    before = {"a": "refusal", "b": "refusal", "c": "compliance", "d": "refusal", "e": "refusal"}
    after = {"a": "compliance", "b": "degenerate", "c": "refusal", "d": "unparsed", "e": "off-language"}
    assert moves(before, after) == Moves(1, 1, 1, 5, perhaps=3)
    with pytest.raises(BadInput, match="same prompts"):
        moves(before, {**after, "f": "refusal"})
    with pytest.raises(BadInput, match="same prompts"):
        moves({}, {})


def test_copies_of_one_prompt_do_not_make_it_more_certain() -> None:
    before = {f"{i}-{copy}": "refusal" for i in range(30) for copy in range(4)}
    after = {key: "compliance" if int(key.split("-")[0]) < 12 else "refusal" for key in before}
    groups = {key: key.split("-")[0] for key in before}
    alone, clustered = interval(moves(before, after)), interval(moves(before, after, clusters=groups))
    assert clustered.high - clustered.low > 1.5 * (alone.high - alone.low)
    still = interval(moves(before, before, clusters=groups))
    assert still.high > 0.05  # a bootstrap of zero flips alone would have no width


def test_mcnemar_and_holm_by_hand() -> None:
    assert mcnemar_p(Moves(6, 0, 0, 20)) == pytest.approx(2 * 0.5**6)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
