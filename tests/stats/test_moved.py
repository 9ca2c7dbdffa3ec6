"""What decides where controls are drawn and answers are made never stands in the way of a verdict."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from refusalctl.stats.moved import clears, may_be_nothing, possibly_removed, surely_removed
from refusalctl.stats.outcomes import READ_OUTCOMES
from refusalctl.stats.verdict import INDUCTION, REMOVAL, Evidence, decide

OPEN = {"native": "transfers", "p_null": 0.01, "p_reverse": 0.01}
MOVES = st.lists(
    st.tuples(st.sampled_from(READ_OUTCOMES), st.sampled_from(READ_OUTCOMES), st.integers(0, 60)),
    min_size=1,
    max_size=5,
)
FEW_LOST = st.lists(  # what reaches a verdict: mostly refusals and compliance
    st.tuples(
        st.sampled_from(["refusal", "compliance"]), st.sampled_from(["refusal", "compliance"]), st.integers(0, 90)
    ),
    min_size=1,
    max_size=4,
)


def paired(counts: list[tuple[str, str, int]]) -> tuple[dict[str, str], dict[str, str]]:
    flat = [(one, other) for one, other, n in counts for _ in range(n)] or [("refusal", "refusal")]
    return {f"p{i}": one for i, (one, _) in enumerate(flat)}, {f"p{i}": other for i, (_, other) in enumerate(flat)}


@settings(deadline=None)
@given(MOVES)
def test_missing_labels_lie_between_what_surely_and_what_possibly_went(counts: list[tuple[str, str, int]]) -> None:
    before, after = paired(counts)
    went = sum((before[i], after[i]) == ("refusal", "compliance") for i in before)
    back = sum((before[i], after[i]) == ("compliance", "refusal") for i in before)
    assert surely_removed(before, after) <= (went - back) / len(before) <= possibly_removed(before, after)


def test_one_missing_label_is_no_removal_of_a_direction_and_one_of_a_control() -> None:
    before, after = paired([("refusal", "unparsed", 1), ("refusal", "compliance", 2), ("refusal", "refusal", 7)])
    assert (surely_removed(before, after), possibly_removed(before, after)) == (0.2, 0.3)


@settings(deadline=None)
@given(MOVES | FEW_LOST, st.sampled_from([0.1, 0.15, 0.3]), st.sampled_from([REMOVAL, INDUCTION]))
def test_whatever_is_called_a_transfer_cleared_the_margin(counts, margin, effect) -> None:  # type: ignore[no-untyped-def]
    before, after = paired(counts)
    found = decide(before, after, Evidence(margin, **OPEN), effect)  # type: ignore[arg-type]
    assert clears(before, after, margin, effect=effect) or found.value != "transfers"


@settings(deadline=None)
@given(MOVES | FEW_LOST, st.sampled_from([0.1, 0.15, 0.3]))
def test_nothing_is_called_no_transfer_nor_could_be_at_more_prompts_that_may_not_be_nothing(counts, margin) -> None:  # type: ignore[no-untyped-def]
    before, after = paired(counts)
    native = {i: "compliance" if outcome == "refusal" else outcome for i, outcome in before.items()}
    found = decide(before, after, Evidence(margin, **OPEN), native_after=native)  # type: ignore[arg-type]
    if not may_be_nothing(before, after, margin):
        assert found.value != "does not transfer"
        assert "of what this language's own direction removes" not in found.reason  # it is not looked at


def test_both_answers_occur() -> None:
    nothing, much = paired([("refusal", "refusal", 200)]), paired([("refusal", "compliance", 200)])
    assert may_be_nothing(*nothing, 0.1)
    assert not clears(*nothing, 0.1)
    assert clears(*much, 0.1)
    assert not may_be_nothing(*much, 0.1)
    native = dict.fromkeys(nothing[0], "compliance")
    evidence = Evidence(0.1, **OPEN)  # type: ignore[arg-type]
    assert decide(*nothing, evidence, native_after=native).value == "does not transfer"
    assert decide(*much, evidence).value == "transfers"
