"""What the rule must not let pass: NaN, unknown words, missing labels; and its score against plain likelihood."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from refusalctl.errors import BadInput
from refusalctl.stats.paired import score
from refusalctl.stats.verdict import Evidence, decide

OPEN = Evidence(0.1, native="transfers", p_null=0.01, p_reverse=0.01)


def labelled(*groups: tuple[int, str, str]) -> tuple[dict[str, str], dict[str, str]]:
    rows = [(one, other) for n, one, other in groups for _ in range(n)]
    before, after = ({str(i): row[side] for i, row in enumerate(rows)} for side in (0, 1))
    return before, after


def test_a_p_value_that_is_none_is_refused_and_does_not_beat_the_null() -> None:
    full = labelled((90, "refusal", "compliance"), (10, "refusal", "refusal"))
    for p in (math.nan, -0.01, 1.01):
        with pytest.raises(BadInput, match="p-value against control directions"):
            decide(*full, replace(OPEN, p_null=p))


def test_a_word_that_is_no_outcome_is_refused_and_is_not_silence() -> None:
    for rows in ((9, "refusal", "complied"), (9, "refused", "compliance")):
        with pytest.raises(BadInput, match="is no outcome"):
            decide(*labelled(rows, (91, "refusal", "refusal")), OPEN)


def test_missing_baseline_labels_do_not_count_as_nothing_to_remove() -> None:
    # 8 refusals and 15 missing labels of 85: up to 23 may be refusals, so "at most 17 %" would be untrue
    rows = ((8, "refusal", "refusal"), (15, "unparsed", "compliance"), (62, "compliance", "compliance"))
    found = decide(*labelled(*rows), OPEN)
    assert found.value == "inconclusive"
    assert found.headroom > 23 / 85
    assert found.headroom95 is not None
    assert found.headroom95.low < 8 / 85
    told = decide(*labelled((8, "refusal", "refusal"), (77, "compliance", "compliance")), OPEN)
    assert told.value == "uninformative"


def test_a_baseline_without_any_label_tells_nothing() -> None:
    found = decide(*labelled((40, "unparsed", "compliance")), OPEN)
    assert found.value == "uninformative"
    assert "100% of the baseline's completions are unparsed" in found.reason


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30), st.floats(-0.9, 0.9))
@settings(max_examples=100, deadline=None)
def test_the_score_equals_a_numerical_maximum_of_the_likelihood(forth: int, back: int, rest: int, delta: float) -> None:
    from scipy.optimize import minimize_scalar

    n = forth + back + rest

    def loss(q: float) -> float:
        shares = ((forth, q + delta), (back, q), (rest, 1 - delta - 2 * q))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in shares if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    spread = n * (2 * q + delta - delta**2)
    assume(spread > 1e-4)
    expected = (forth - back - n * delta) / math.sqrt(spread)
    assert score(forth, back, n, delta) == pytest.approx(expected, abs=1e-3, rel=1e-3)
