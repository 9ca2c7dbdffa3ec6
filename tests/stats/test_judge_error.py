"""Judge errors and corrected rates: hand calculations, and coverage in a simulated stratified sample."""

from __future__ import annotations

import numpy as np
import pytest

from refusalctl.errors import BadInput
from refusalctl.stats.judge_error import JudgeErrors, SampleCell, better_than_chance, corrected, errors
from refusalctl.stats.rates import Interval

# of 100 completions judged positive 20 are labelled, of 900 judged negative 30
CELLS = [SampleCell(True, 5.0, 20, 18), SampleCell(False, 30.0, 30, 3)]


def test_weights_undo_the_sampling_by_verdict() -> None:
    found = errors(CELLS)
    # 90 true positives found, 90 missed; 810 true negatives, 10 false alarms
    assert found.sensitivity.value == pytest.approx(90 / 180)
    assert found.specificity.value == pytest.approx(810 / 820)
    plain = 18 / 21  # what labels would say without their weights
    assert found.sensitivity.interval.high < plain


def test_correction_gives_back_the_weighted_rate_of_people() -> None:
    # the judge's 100 in 1000, corrected by errors from that very population: (90 + 90) / 1000
    found = corrected(100, 1000, errors(CELLS))
    assert found.value == found.raw == pytest.approx(0.18)
    assert found.interval.low < 0.18 < found.interval.high


def test_a_cell_without_a_miss_still_has_doubt() -> None:
    found = errors([SampleCell(True, 1.0, 30, 30), SampleCell(False, 20.0, 30, 0)])
    assert found.sensitivity.value == 1.0
    assert found.sensitivity.interval.low < 0.9
    assert found.sensitivity.interval.high == 1.0
    wide = errors([SampleCell(True, 1.0, 30, 30), SampleCell(False, 1.0, 30, 0)])
    assert wide.sensitivity.interval.low > found.sensitivity.interval.low  # fewer unseen completions, less doubt


def test_an_equally_weighted_sample_is_worth_its_size() -> None:
    found = errors([SampleCell(True, 1.0, 100, 80), SampleCell(False, 1.0, 100, 20)])
    assert found.sensitivity.effective == pytest.approx(100, rel=0.3)
    assert found.sensitivity.value == 0.8
    # Wilson's interval of 80 in 100 is .711 to .867 (R's prop.test without correction)
    assert found.sensitivity.interval == pytest.approx(Interval(0.711, 0.867), abs=0.02)


@pytest.mark.parametrize(
    "cells", [[SampleCell(True, 1, 20, 20), SampleCell(False, 1, 20, 11)], [SampleCell(False, 1, 30, 9)]]
)
def test_too_few_labels_are_an_error(cells: list[SampleCell]) -> None:
    with pytest.raises(BadInput, match=r"9 (negative|positive) labels, expected at least 10"):
        errors(cells)


def test_a_judge_like_a_coin_corrects_nothing() -> None:
    for positive in (25, 20):  # Youden's index 0 and below
        coin = errors([SampleCell(True, 1, 50, positive), SampleCell(False, 1, 50, 50 - positive)])
        assert not better_than_chance(coin)
        with pytest.raises(BadInput, match="not shown to be better than chance"):
            corrected(50, 100, coin)


def test_a_judge_of_one_verdict_corrects_nothing() -> None:
    with pytest.raises(BadInput, match="one verdict on all"):
        errors([SampleCell(True, 1, 50, 25)])


def test_the_estimate_is_cut_to_a_rate_and_says_so() -> None:
    calibration = errors([SampleCell(True, 1, 50, 45), SampleCell(False, 1, 50, 5)])
    found = corrected(7, 100, calibration)
    assert found.raw < 0 == found.value == found.interval.low
    assert found.interval.high > 0
    with pytest.raises(BadInput, match="errs differently"):  # 0 in 100 by a judge that errs once in ten
        corrected(0, 100, calibration)


def simulate(rng: np.random.Generator, rate: float, se: float, sp: float, n: int, each: int) -> tuple[JudgeErrors, int]:
    """Two conditions (rates .9 and `rate`), each verdict of each condition sampled alike: a calibration, and the
    judge's positives in the second condition."""
    cells, positives = [], 0
    for share in (0.9, rate):
        truth = rng.random(n) < share
        said = np.where(truth, rng.random(n) < se, rng.random(n) > sp)
        positives = int(said.sum())
        for verdict in (True, False):
            rows = truth[said == verdict]
            drawn = rng.permutation(rows)[:each]
            if len(drawn):
                cells.append(SampleCell(verdict, len(rows) / len(drawn), len(drawn), int(drawn.sum())))
    return errors(cells), positives


@pytest.mark.parametrize(
    ("rate", "se", "sp", "n", "each"),
    [(0.1, 0.9, 0.95, 572, 25), (0.3, 0.7, 0.9, 572, 50), (0.02, 0.95, 0.97, 200, 15)],
)
def test_intervals_cover_the_truth_in_a_stratified_sample(rate: float, se: float, sp: float, n: int, each: int) -> None:
    rng, hits, plain = np.random.default_rng(5), [], []
    found_se, found_sp = [], []
    for _ in range(400):
        found, positives = simulate(rng, rate, se, sp, n, each)
        limits = corrected(positives, n, found)
        hits.append(limits.interval.low <= rate <= limits.interval.high)
        plain.append(abs(positives / n - rate) <= 1.96 * (positives / n * (1 - positives / n) / n) ** 0.5)
        found_se.append(found.sensitivity.interval.low <= se <= found.sensitivity.interval.high)
        found_sp.append(found.specificity.interval.low <= sp <= found.specificity.interval.high)
    assert np.mean(hits) > 0.94  # 400 draws: 2 standard errors are .022
    assert np.mean(hits) > np.mean(plain)
    assert min(np.mean(found_se), np.mean(found_sp)) > 0.92


def test_the_interval_covers_without_strata_as_published() -> None:
    """Lang and Reiczigel's own setting: separate positive and negative controls; their coverage is close to nominal."""
    rng, hits = np.random.default_rng(6), []
    for _ in range(600):
        x, s, c = rng.binomial(500, 0.2 * 0.85 + 0.8 * 0.1), rng.binomial(60, 0.85), rng.binomial(90, 0.9)
        cells = [SampleCell(True, 1, s + 90 - c, s), SampleCell(False, 1, 60 - s + c, 60 - s)]
        limits = corrected(x, 500, errors(cells)).interval
        hits.append(limits.low <= 0.2 <= limits.high)
    assert 0.93 < np.mean(hits) < 0.985
