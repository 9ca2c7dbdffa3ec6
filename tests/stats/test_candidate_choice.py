"""Choosing a direction: the rule, its refusals, and the openings that scores are made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refusalctl.errors import BadInput, EmptySelection, ModelError
from refusalctl.records.selection import Candidate
from refusalctl.stats import openings
from refusalctl.stats.candidate_choice import CandidateScores, choose, stability
from refusalctl.stats.difference_in_means import RunningMean, difference_in_means
from refusalctl.stats.rates import Rate, flips, outcome_rate
from refusalctl.stats.refusal import kl_divergence, refusal_score
from refusalctl.stats.selection_rule import PRESETS, layer_limit

ARDITI, WANG = PRESETS["arditi"], PRESETS["wang"]


def scores(*rows: tuple[int, int, float, float, float]) -> CandidateScores:
    """Candidates as (pos, layer, bypass, induce, kl), the same for two prompts."""
    columns = [np.array([[row[k]] * 2 for row in rows]) for k in (2, 3, 4)]
    return CandidateScores([Candidate(row[0], row[1]) for row in rows], *columns)


def test_the_lowest_bypass_among_passing_candidates_wins() -> None:
    table = scores(
        (-1, 0, -9.0, 1.0, 0.5), (-1, 1, -5.0, 1.0, 0.05), (-2, 1, -7.0, 1.0, 0.05), (-1, 2, -8.0, -1.0, 0.0)
    )
    assert choose(table, ARDITI, 10) == 2


def test_wang_has_no_induce_test_and_a_wider_kl() -> None:
    table = scores((-1, 1, -5.0, 1.0, 0.05), (-1, 2, -8.0, -1.0, 0.15))
    assert choose(table, ARDITI, 10) == 0
    assert choose(table, WANG, 10) == 1


def test_limits_are_inclusive_as_published() -> None:
    assert choose(scores((-1, 1, -5.0, 0.0, 0.1)), ARDITI, 10) == 0


@pytest.mark.parametrize(("n_layers", "limit"), [(30, 24), (28, 22), (32, 25), (35, 28), (12, 9)])
def test_layer_limit_is_the_floor_of_the_share(n_layers: int, limit: int) -> None:
    assert layer_limit(0.8, n_layers) == limit


def test_layers_at_the_limit_are_out() -> None:
    table = scores((-1, 8, -9.0, 1.0, 0.0), (-1, 7, -1.0, 1.0, 0.0))
    assert choose(table, ARDITI, 10) == 1


def test_an_empty_choice_counts_what_each_test_removed_and_names_the_threshold_that_would_help() -> None:
    table = scores((-1, 1, -5.0, 1.0, 0.25), (-1, 2, -6.0, -0.5, 0.05), (-1, 9, -7.0, 1.0, 0.01))
    with pytest.raises(EmptySelection) as caught:
        choose(table, ARDITI, 10)
    text = str(caught.value)
    assert "none of 3 candidates" in text
    assert "layer < 8 removed 1" in text
    assert "KL <= 0.1 removed 1" in text
    assert "induce >= 0 removed 1" in text
    assert "--max-kl 0.25" in text
    assert "--min-induce -0.5" in text


def test_the_advice_lets_the_best_candidate_in() -> None:
    table = scores((-1, 1, -5.0, -0.5, 0.2504))
    with pytest.raises(EmptySelection, match=r"--max-kl 0\.251 together with --min-induce -0\.5"):
        choose(table, ARDITI, 10)
    assert choose(table, ARDITI.with_limits(max_kl=0.251, min_induce=-0.5), 10) == 0


@pytest.mark.parametrize("column", ["bypass", "induce", "kl"])
def test_nan_scores_are_an_error_and_never_a_choice(column: str) -> None:
    table = scores((-1, 1, -5.0, 1.0, 0.0), (-1, 2, -6.0, 1.0, 0.0))
    broken = table._replace(**{column: np.full((2, 2), np.nan)})
    with pytest.raises(EmptySelection, match="NaN"):
        choose(broken, ARDITI, 10)


def test_no_validation_prompts_are_an_error() -> None:
    empty = CandidateScores([Candidate(-1, 1)], np.empty((1, 0)), np.empty((1, 0)), np.empty((1, 0)))
    with pytest.raises(EmptySelection, match="no values"):
        choose(empty, ARDITI, 10)


def test_stability_finds_a_clear_winner_always_and_an_unclear_one_sometimes() -> None:
    rng = np.random.default_rng(0)
    clear = scores((-1, 1, -5.0, 1.0, 0.0), (-1, 2, -1.0, 1.0, 0.0))
    assert stability(clear, ARDITI, 10, rng, 50).winners == {"-1,1": 1.0}
    noisy = clear._replace(bypass=np.array([[-9.0, 0.0, 0.0], [0.0, -8.0, 0.0]]))
    shares = stability(noisy, ARDITI, 10, rng, 200).winners
    assert 0.1 < shares["-1,1"] < 0.95


# --- refusal openings ------------------------------------------------------------------------------------


def test_openings_are_as_long_as_needed_to_tell_refusals_from_other_answers() -> None:
    refusals = [(1, 2, 3)] * 6 + [(7, 8)] * 4
    others = [(1, 5, 5)] * 10 + [(9, 9)] * 10
    found = openings.derive(refusals, others)
    assert found.sequences == ((1, 2), (7,))
    assert (found.counts, found.coverage, found.false_share) == ((6, 4), 1.0, 0.0)


def test_rare_and_shared_openings_are_left_out_of_the_coverage() -> None:
    refusals = [(1, 2)] * 48 + [(4, 4)] + [(6, 6)]
    found = openings.derive(refusals, [(6, 6)] * 10 + [(5,)] * 10)
    assert found.sequences == ((1,),)
    assert found.coverage == pytest.approx(48 / 50)


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=5, max_size=30),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=30),
)
def test_no_opening_begins_another(refusals: list[list[int]], others: list[list[int]]) -> None:
    try:
        found = openings.derive(refusals, others).sequences
    except EmptySelection:
        return
    assert not any(a != b and b[: len(a)] == a for a in found for b in found)


def test_too_few_refusals_or_no_contrast_is_an_error() -> None:
    with pytest.raises(EmptySelection, match="refused 4 train prompts"):
        openings.derive([(1,)] * 4, [(2,)] * 9)
    with pytest.raises(EmptySelection, match="no contrast"):
        openings.derive([(1,)] * 9, [])
    with pytest.raises(EmptySelection, match="no opening of up to 8 tokens"):
        openings.derive([(1, 2)] * 9, [(1, 2)] * 9)


# --- scores, means, rates --------------------------------------------------------------------------------


def test_refusal_score_is_the_log_odds() -> None:
    p = torch.tensor([0.5, 0.9, 1e-8], dtype=torch.float64)
    torch.testing.assert_close(refusal_score(p.log()), torch.logit(p))


def test_refusal_score_of_probability_one_is_large_and_finite_and_nan_is_an_error() -> None:
    assert 20 < float(refusal_score(torch.tensor([1e-9]))[0]) < 100
    with pytest.raises(ModelError, match="NaN"):
        refusal_score(torch.tensor([float("nan")]))


def test_kl_of_a_distribution_with_itself_is_zero_and_else_the_textbook_sum() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25]]).log()
    q = torch.tensor([[0.25, 0.5, 0.25]]).log()
    assert float(kl_divergence(p, p)[0]) == 0.0
    assert float(kl_divergence(p, q)[0]) == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))


def test_means_accumulate_in_float64() -> None:
    running = RunningMean()
    running.add(torch.full((1, 1, 1, 1), 1e8))
    running.add(torch.full((3, 1, 1, 1), 1.0))
    assert float(running.mean()) == (1e8 + 3) / 4
    with pytest.raises(BadInput):
        RunningMean().mean()


def test_difference_points_from_harmless_to_harmful() -> None:
    found = difference_in_means(torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), 1.0))
    assert found.tolist() == [[[2.0, 2.0]]]
    with pytest.raises(BadInput, match="NaN"):
        difference_in_means(torch.full((1, 1, 2), float("nan")), torch.zeros((1, 1, 2)))


def test_wilson_against_published_values() -> None:
    """Newcombe 1998, Stat. Med. 17:857, table I: 81/263 and 1/29."""
    low, high = Rate(81, 263).wilson()
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = Rate(1, 29).wilson()
    assert (round(low, 4), round(high, 4)) == (0.0061, 0.1718)


def test_unparsed_is_neither_refusal_nor_compliance_and_an_empty_rate_is_an_error() -> None:
    rate = outcome_rate(["refusal", "compliance", "unparsed"], "refusal")
    assert (rate.count, rate.n, rate.unparsed) == (1, 2, 1)
    with pytest.raises(BadInput, match="1 completions are unparsed"):
        outcome_rate(["unparsed"], "refusal")


def test_flips_count_both_ways_and_keep_degenerate_and_unparsed_apart() -> None:
    before = dict.fromkeys("abcdef", "refusal") | {"g": "compliance", "h": "compliance"}
    after = {
        "a": "compliance",
        "b": "compliance",
        "c": "compliance",
        "d": "refusal",
        "e": "degenerate",
        "f": "unparsed",
    }
    after |= {"g": "refusal", "h": "compliance"}
    found = flips(before, after)
    assert (found.n, found.removed, found.gained, found.to_degenerate, found.unparsed) == (8, 3, 1, 1, 1)
    assert found.net == pytest.approx(2 / 8)
    elsewhere = flips(before, after | {"b": "off-language"})
    assert (elsewhere.removed, elsewhere.to_off_language) == (2, 1)


def test_unpaired_conditions_are_refused() -> None:
    with pytest.raises(BadInput, match="same prompts"):
        flips({"a": "refusal"}, {"b": "refusal"})
