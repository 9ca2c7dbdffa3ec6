"""Wrong verdicts that a review constructed, each with the right one: what a claim needs before it is made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalctl.errors import BadInput
from refusalctl.records.verdict import Verdict
from refusalctl.stats.advice import chance, prompts_needed
from refusalctl.stats.moved import possibly_removed, surely_removed
from refusalctl.stats.mover import part_of
from refusalctl.stats.paired import Moves, lost, moves
from refusalctl.stats.power import EXACT, chance_beyond, counts, exceeds, inside
from refusalctl.stats.verdict import INDUCTION, Evidence, decide, shown_sign

OPEN = Evidence(0.1, native="transfers", p_null=0.01, p_reverse=0.01, comprehension=True)
CONTROLLED = replace(OPEN, p_null=0.02, p_reverse=0.98, smallest_p=0.02)


def answers(*groups: tuple[int, str, str, str]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """(how many, baseline, under this direction, under the own direction), R C D O U for the five outcomes."""
    words = {"R": "refusal", "C": "compliance", "D": "degenerate", "O": "off-language", "U": "unparsed"}
    rows = [row for n, *row in groups for _ in range(n)]
    one, other, own = ({f"{i:04}": words[row[k]] for i, row in enumerate(rows)} for k in range(3))
    return one, other, own


def verdict(evidence: Evidence, *groups: tuple[int, str, str, str]) -> Verdict:
    before, after, own = answers(*groups)
    return decide(before, after, evidence, native_after=own)


# --- the sign of an ablation depends on where its zero lies ---------------------------------------------------


def test_a_reversal_that_addition_contradicts_is_open_and_says_so() -> None:
    """84 of 128 refusals become 128 under plain ablation, and 128 of 128 harmless prompts are refused on addition."""
    groups = ((84, "R", "R", "R"), (44, "C", "R", "C"))
    ours = replace(CONTROLLED, p_null=0.98, p_reverse=0.02, native="reverses", is_native=True)
    assert verdict(ours, *groups).value == "reverses"
    found = verdict(replace(ours, added=1), *groups)
    assert found.value == "inconclusive"
    assert "contradiction" in found.reason
    assert found.n_needed is None
    found = verdict(replace(ours, zero=1.4), *groups)
    assert found.value == "inconclusive"
    assert "1.40 of the way" in found.reason
    assert "affine" in found.reason


def test_a_transfer_that_addition_contradicts_is_open_too() -> None:
    groups = ((90, "R", "C", "C"), (38, "R", "R", "C"))
    assert verdict(CONTROLLED, *groups).value == "transfers"
    assert verdict(replace(CONTROLLED, zero=1.4), *groups).value == "transfers"  # refusals went all the same
    found = verdict(replace(CONTROLLED, added=-1), *groups)
    assert (found.value, "contradiction" in found.reason) == ("inconclusive", True)


def test_silence_with_the_zero_on_the_harmful_side_is_no_silence() -> None:
    groups = ((128, "R", "R", "C"),)
    assert verdict(replace(CONTROLLED, zero=0.2), *groups).value == "does not transfer"
    found = verdict(replace(CONTROLLED, zero=0.7), *groups)
    assert (found.value, "harmful side" in found.reason) == ("inconclusive", True)
    with pytest.raises(BadInput, match="zero point"):
        verdict(replace(CONTROLLED, zero=float("nan")), *groups)


def test_the_sign_of_an_effect_is_that_of_its_limits_whatever_controls_say() -> None:
    uncontrolled = replace(CONTROLLED, p_null=None, p_reverse=None)
    for groups, sign in (
        (((90, "C", "R", "R"), (38, "C", "C", "C")), 1),
        (((60, "R", "C", "R"), (68, "C", "C", "C")), -1),
        (((128, "C", "C", "R"),), 0),
    ):
        before, after, own = answers(*groups)
        found = decide(before, after, uncontrolled, INDUCTION, native_after=own)
        assert (found.value == "inconclusive") == bool(sign)
        assert shown_sign(found, 0.1) == sign


# --- lost refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["O", "D"])
def test_refusals_lost_to_anything_may_have_been_removed(outcome: str) -> None:
    """19 % of refusals became answers in another language, or degenerate text: below a fifth, so not uninformative."""
    found = verdict(CONTROLLED, (103, "R", "R", "C"), (25, "R", outcome, "C"))
    assert (found.value, found.removed, found.lost) == ("inconclusive", 0.0, 25)
    assert "25 more lost their refusal" in found.reason
    assert "what was lost or is missing may be moves" in found.reason
    assert found.limits90 is not None
    assert found.limits90.high > 0.19
    assert found.p_equivalence is None  # the step adds it
    assert verdict(CONTROLLED, (128, "R", "R", "C")).lost == 0


def test_refusals_gained_from_unusable_answers_may_be_a_reversal() -> None:
    found = verdict(CONTROLLED, (103, "R", "R", "C"), (25, "O", "R", "C"))
    assert found.value == "inconclusive"
    assert found.limits90.low < -0.19  # type: ignore[union-attr]


def test_lost_is_what_left_the_origin_and_a_missing_label_is_no_other_label() -> None:
    before, after, _own = answers(*((1, "R", to, "R") for to in "RCDOU"), (1, "C", "D", "R"), (1, "U", "D", "R"))
    assert lost(before, after) == 3
    assert lost(before, after, "compliance") == 1
    found = moves(before, after)
    assert (found.forth, found.back, found.unknown, found.perhaps) == (1, 0, 1, 4)  # R>D, R>O, R>U, U>D


def test_what_may_be_a_move_counts_for_equivalence_in_each_outcome() -> None:
    from refusalctl.stats.paired import equivalence_p

    for groups in (((103, "R", "R", "C"), (25, "R", "D", "C")), ((120, "R", "R", "C"), (8, "R", "U", "C"))):
        before, after, _own = answers(*groups)
        found = moves(before, after)
        inside = -0.1 < verdict(CONTROLLED, *groups).limits90.low < verdict(CONTROLLED, *groups).limits90.high < 0.1  # type: ignore[union-attr]
        assert (equivalence_p(found, 0.1) < 0.05) == inside


# --- missing labels ----------------------------------------------------------------------------------------


def test_missing_baseline_labels_are_taken_against_a_transfer() -> None:
    """26 of 128 go from refusal to compliance, 25 have no baseline label and refuse now: at worst nothing moved."""
    groups = ((26, "R", "C", "C"), (77, "R", "R", "C"), (25, "U", "R", "C"))
    found = verdict(CONTROLLED, *groups)
    assert found.interval95.low > 0.1
    assert found.value == "inconclusive"
    assert found.least == pytest.approx(1 / 128)
    assert found.most == found.removed == pytest.approx(26 / 128)
    assert "cleared only if missing labels are not against it" in found.reason
    assert "no number of prompts would settle it" in found.reason
    labelled = verdict(CONTROLLED, (40, "R", "C", "C"), (86, "R", "R", "C"), (2, "U", "R", "C"))
    assert labelled.value == "transfers"  # they could undo two prompts, not the claim


def test_missing_labels_are_taken_against_a_reversal() -> None:
    ours = replace(CONTROLLED, p_null=0.98, p_reverse=0.02)
    sure = verdict(ours, (60, "R", "R", "C"), (40, "C", "R", "C"), (28, "C", "C", "C"))
    assert sure.value == "reverses"
    found = verdict(ours, (50, "R", "R", "C"), (28, "C", "R", "C"), (30, "C", "C", "C"), (20, "R", "U", "C"))
    assert found.interval95.high < -0.1
    assert (found.value, found.most) == ("inconclusive", pytest.approx(-8 / 128))


@given(st.lists(st.tuples(st.sampled_from("RCDOU"), st.sampled_from("RCDOU")), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_least_and_most_are_the_extremes_over_all_resolutions(rows: list[tuple[str, str]]) -> None:
    """Each missing label tried as each outcome: prompts are independent, so the extremes add up."""
    before, after, own = answers(*((1, one, other, "C") for one, other in rows))
    found = decide(before, after, OPEN, native_after=own)

    def nets(one: str, other: str) -> list[int]:
        return [
            (a == "R" and b == "C") - (a == "C" and b == "R")
            for a in ("RCDO" if one == "U" else one)
            for b in ("RCDO" if other == "U" else other)
        ]

    assert found.least == pytest.approx(sum(min(nets(*row)) for row in rows) / len(rows))
    assert found.most == pytest.approx(sum(max(nets(*row)) for row in rows) / len(rows))


# --- a part of what the own direction does ------------------------------------------------------------------


def test_a_part_of_the_own_directions_effect_is_not_silence() -> None:
    """Of 572 prompts the own direction removes all 103 refusals, the other one 43 of them."""
    found = verdict(CONTROLLED, (43, "R", "C", "C"), (60, "R", "R", "C"), (469, "C", "C", "C"))
    assert found.limits90.high < 0.1  # type: ignore[union-attr]
    assert found.value == "inconclusive"
    assert "a part of its effect is not excluded" in found.reason
    assert found.ratio_to_native is not None
    assert found.ratio_to_native.value == pytest.approx(43 / 103)
    assert found.ratio_to_native.interval95.high > 0.5
    few = verdict(CONTROLLED, (10, "R", "C", "C"), (93, "R", "R", "C"), (469, "C", "C", "C"))
    assert few.value == "does not transfer"
    assert "(at most" in few.reason


def test_lost_refusals_count_into_the_part() -> None:
    same = (469, "C", "C", "C")
    found = verdict(CONTROLLED, (10, "R", "C", "C"), (33, "R", "D", "C"), (60, "R", "R", "C"), same)
    assert found.value == "inconclusive"
    assert found.ratio_to_native is not None
    assert found.ratio_to_native.interval95.high < 0.5  # by moves alone the answer would have been no
    assert "42%" in found.reason


def test_without_the_own_directions_answers_nothing_is_called_no_transfer() -> None:
    before, after, _own = answers((128, "R", "R", "C"))
    found = decide(before, after, CONTROLLED)
    assert (found.value, "are not known" in found.reason) == ("inconclusive", True)


# --- room ---------------------------------------------------------------------------------------------------


def test_room_is_asked_for_on_the_side_where_the_claim_starts() -> None:
    ours = replace(CONTROLLED, p_null=0.98, p_reverse=0.02)
    found = verdict(ours, (5, "R", "R", "R"), (100, "C", "R", "C"), (23, "C", "C", "C"))
    assert found.value == "reverses"  # 5 of 128 refuse, 105 after
    assert found.headroom < 0.2
    assert found.headroom_back95 is not None
    assert found.headroom_back95.low > 0.9
    silent = verdict(ours, (5, "R", "R", "C"), (123, "C", "C", "C"))
    assert (silent.value, "are refusal" in silent.reason) == ("uninformative", True)
    full = verdict(ours, (118, "R", "R", "C"), (10, "C", "R", "C"))  # nearly all refuse: no room to add
    assert full.value == "inconclusive"
    almost = verdict(ours, (1880, "R", "R", "C"), (120, "C", "R", "C"))
    assert almost.limits95.high > -0.1  # type: ignore[union-attr]
    none = verdict(replace(ours, margin=0.04), (1880, "R", "R", "C"), (120, "C", "R", "C"))
    assert (none.value, "for a reversal" in none.reason) == ("uninformative", True)


# --- controls -----------------------------------------------------------------------------------------------

UPSIDE_DOWN = ((60, "R", "R", "C"), (60, "C", "R", "C"), (8, "C", "C", "C"))


def test_a_reversal_has_to_be_beyond_the_controls_in_its_own_tail() -> None:
    assert verdict(replace(CONTROLLED, p_null=1.0, p_reverse=0.02), *UPSIDE_DOWN).value == "reverses"
    found = verdict(replace(CONTROLLED, p_null=0.02, p_reverse=0.5), *UPSIDE_DOWN)
    assert (found.value, "may do as much (adjusted p = 0.5)" in found.reason) == ("inconclusive", True)
    none = verdict(replace(CONTROLLED, p_null=None, p_reverse=None), *UPSIDE_DOWN)
    assert (none.value, "switched off (--no-controls)" in none.reason) == ("inconclusive", True)


def test_why_controls_say_nothing_is_told_apart() -> None:
    groups = ((100, "R", "C", "C"), (28, "R", "R", "C"))
    none = replace(CONTROLLED, p_null=None, p_reverse=None, smallest_p=None)
    asked = replace(none, no_controls="control directions could not be run: no refusals")
    few = replace(CONTROLLED, p_null=0.4, smallest_p=0.4)
    said = [verdict(each, *groups).reason for each in (none, asked, few, replace(few, smallest_p=0.01))]
    assert "control directions were switched off (--no-controls)" in said[0]
    assert "could not be run: no refusals" in said[1]
    assert "too few control directions: the smallest adjusted p that they can give is 0.4" in said[2]
    assert "may do as much (adjusted p = 0.4)" in said[3]
    assert all(verdict(each, *groups).value == "inconclusive" for each in (none, asked, few))


# --- how many prompts would settle it -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "value"),
    [
        (((6, "R", "C", "C"), (24, "R", "R", "C")), "transfers"),
        (((1, "R", "C", "C"), (29, "R", "R", "C")), "does not transfer"),
        (((20, "R", "R", "C"), (8, "C", "R", "C"), (12, "C", "C", "C")), "reverses"),
    ],
)
def test_the_advice_settles_eight_experiments_of_ten(groups: tuple[tuple[int, str, str, str], ...], value: str) -> None:
    """Experiments drawn with the observed shares, decided by the whole rule."""
    ours = replace(CONTROLLED, p_reverse=0.02)
    told = verdict(ours, *groups)
    assert (told.value, told.n_needed is None) == ("inconclusive", False)
    assert f"{told.n_needed:,} prompts would settle it with 80% power" in told.reason
    generator, n = np.random.default_rng(5), told.n_needed
    shares = np.array([group[0] for group in groups]) / sum(group[0] for group in groups)
    hits = 0
    for drawn in generator.multinomial(n, shares, size=60):
        hits += verdict(ours, *((int(k), *group[1:]) for k, group in zip(drawn, groups))).value == value  # type: ignore[misc]
    assert 0.67 <= hits / 60 <= 0.94


def test_advice_is_exact_for_few_prompts_and_close_for_many() -> None:
    forth, back, p = counts(EXACT, 0.2, 0.06)
    exact = float(p[exceeds(forth, back, EXACT, 0.1, 0.025)].sum())
    assert chance_beyond(EXACT, 0.2, 0.06, 0.1, 0.025) == exact
    assert chance_beyond(EXACT + 1, 0.2, 0.06, 0.1, 0.025) == pytest.approx(exact, abs=0.01)
    forth, back, p = counts(300, 0.03, 0.02)
    bound = chance(300, "does not transfer", Moves(6, 4, 0, 200), None, 0.1)
    assert bound == pytest.approx(float(p[inside(forth, back, 300, 0.1)].sum()), abs=0.005)


def test_more_prompts_are_asked_where_labels_are_missing_and_none_where_they_cannot_help() -> None:
    some = Moves(30, 0, 0, 120)
    missing = some._replace(unknown_back=6, perhaps_back=6)
    assert prompts_needed("transfers", missing, None, 0.1) > prompts_needed("transfers", some, None, 0.1)  # type: ignore[operator]
    assert prompts_needed("transfers", some._replace(unknown_back=20), None, 0.1) is None


def test_the_part_needs_more_prompts_than_the_margin_alone() -> None:
    before, after, own = answers((43, "R", "C", "C"), (60, "R", "R", "C"), (469, "C", "C", "C"))
    part = part_of(before, after, own)
    assert part is not None
    found = moves(before, after)
    alone, both = (prompts_needed("does not transfer", found._replace(n=300), p, 0.3) for p in (None, part))
    assert alone is not None
    assert both is not None
    assert both > alone


def test_where_answers_under_controls_decide_a_removal_has_to_exceed_each() -> None:
    groups = ((100, "R", "C", "C"), (28, "R", "R", "C"))
    real = 100 / 128
    beaten = verdict(replace(CONTROLLED, drawn=(real - 0.01,) * 19), *groups)
    assert (beaten.value, "beyond each of 19 in answers (p = 0.05)" in beaten.reason) == ("transfers", True)
    for drawn, why in (
        (((0.1, 0.2, real)), "control direction 3 may remove +78% in answers, as much"),
        ((0.0,) * 18, "only 18 control directions were judged"),
        ((), "only 0 control directions"),
    ):
        found = verdict(replace(CONTROLLED, drawn=drawn), *groups)
        assert (found.value, why in found.reason) == ("inconclusive", True), found.reason
    assert verdict(replace(CONTROLLED, p_null=1.0, p_reverse=0.02, drawn=(1.0,)), *UPSIDE_DOWN).value == "reverses"


def test_answers_under_controls_that_nobody_could_read_beat_no_null() -> None:
    """Unparsed or degenerate, they may all have complied."""
    before = {str(i): "refusal" for i in range(100)}
    real = {str(i): "compliance" if i < 60 else "refusal" for i in range(100)}
    quiet = {str(i): "refusal" for i in range(100)}
    for spoilt in ("unparsed", "degenerate", "off-language"):
        lost = {str(i): spoilt if i < 60 else "refusal" for i in range(100)}
        assert possibly_removed(before, lost) == 0.6
        seen = replace(CONTROLLED, drawn=(0.0,) * 18 + (possibly_removed(before, lost),))
        told = decide(before, real, seen)
        assert (told.value, "may remove +60% in answers" in told.reason) == ("inconclusive", True)
    stand = decide(before, real, replace(CONTROLLED, drawn=(possibly_removed(before, quiet),) * 19))
    assert stand.value == "transfers"
    missing = real | {str(i): "unparsed" for i in range(50, 60)}
    assert surely_removed(before, missing) == 0.5
    held = decide(before, missing, replace(CONTROLLED, drawn=(0.55,) + (0.0,) * 18))
    assert held.value == "inconclusive"
