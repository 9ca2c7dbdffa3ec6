"""What n can show, against plain sums, and the error rates that the rule promises, summed exactly."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalctl.errors import BadInput
from refusalctl.stats.paired import SHIFT, Moves, equivalence_p, score, score_interval
from refusalctl.stats.power import above, chance_of_transfer, counts, detectable, inside, scores
from refusalctl.stats.verdict import decision_limits

# discordance just above the true effect is where score limits alone fail
AWAY = np.concatenate([[0.0], np.geomspace(1e-4, 0.1, 12), np.linspace(0.12, 0.44, 7)])


def chance_of_equivalence(n: int, effect: float, margin: float, back: float = 0.0) -> float:
    """Chance that the 90 % interval lies inside the margin where the true removed share is `effect`."""
    forth, backward, p = counts(n, effect + back, back)
    return float(p[inside(forth, backward, n, margin)].sum())


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("n", [24, 48, 64, 85, 100, 128, 200])
def test_error_rates_stay_within_their_targets_at_the_margin(n: int, margin: float) -> None:
    for away in AWAY:
        if margin + 2 * away <= 1:
            assert chance_of_transfer(n, margin, margin, away) <= 0.025
            assert chance_of_equivalence(n, margin, margin, away) <= 0.05


def test_the_score_limits_alone_would_call_too_much_a_transfer() -> None:
    forth, back, p = counts(85, 0.1, 0.0)
    assert p[above(forth, back, 85, 0.1, 0.0)].sum() > 0.04
    forth, back, p = counts(100, 0.1, 0.0)
    assert p[inside(forth, back, 100, 0.1, 0.0)].sum() > 0.05


def test_probabilities_are_those_of_a_plain_sum() -> None:
    n, forth, back = 9, 0.3, 0.2
    got = {(int(f), int(b)): p for f, b, p in zip(*counts(n, forth, back))}
    for (f, b), p in got.items():
        plain = comb(n, f) * comb(n - f, b) * forth**f * back**b * (1 - forth - back) ** (n - f - b)
        assert p == pytest.approx(plain)
    assert sum(got.values()) == pytest.approx(1)
    assert counts(5, 1.0, 0.0)[2].sum() == pytest.approx(1)
    with pytest.raises(BadInput, match="cannot be"):
        counts(5, 0.8, 0.4)


@given(st.integers(1, 80), st.data())
@settings(max_examples=150, deadline=None)
def test_arrays_and_limits_give_one_answer(n: int, data: st.DataObject) -> None:
    forth = data.draw(st.integers(0, n))
    back = data.draw(st.integers(0, n - forth))
    margin = data.draw(st.sampled_from([0.05, 0.1, 0.2]))
    f, b = np.array([float(forth)]), np.array([float(back)])
    assert scores(f, b, n, margin)[0] == pytest.approx(score(forth, back, n, margin))
    limits = decision_limits(Moves(forth, back, 0, n))
    within = -margin < limits.at90.low and limits.at90.high < margin
    if min(abs(limits.at95.low - margin), abs(limits.at90.low + margin), abs(limits.at90.high - margin)) > 1e-6:
        assert above(f, b, n, margin)[0] == (limits.at95.low > margin)
        assert inside(f, b, n, margin)[0] == within
        assert (equivalence_p(Moves(forth, back, 0, n), margin) < 0.05) == within


def test_a_decision_stands_one_prompt_further_out_and_is_nested_in_the_margin() -> None:
    plain, firm = score_interval(20, 3, 85), score_interval(20, 3, 85, shift=SHIFT)
    assert plain.low - firm.low == pytest.approx(1 / 85, abs=0.004)
    assert firm.high - plain.high == pytest.approx(1 / 85, abs=0.004)
    forth, back, _ = counts(60, 0.5, 0.2)
    for smaller, larger in ((0.05, 0.06), (0.1, 0.101), (0.1, 0.3)):
        assert not (above(forth, back, 60, larger) & ~above(forth, back, 60, smaller)).any()
        assert not (inside(forth, back, 60, smaller) & ~inside(forth, back, 60, larger)).any()


def test_more_prompts_show_smaller_effects_and_few_show_none() -> None:
    found = [detectable(n, 0.1) for n in (48, 85, 200, 572)]
    assert all(f is not None for f in found)
    assert found == sorted(found, reverse=True)  # type: ignore[type-var]
    assert chance_of_transfer(85, found[1], 0.1) == pytest.approx(0.8, abs=0.01)  # type: ignore[arg-type]
    assert detectable(2, 0.1) is None
    assert detectable(85, 0.1, back=0.1) > found[1]  # type: ignore[operator]
