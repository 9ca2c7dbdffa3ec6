"""Paired differences against published worked examples."""

from __future__ import annotations

import pytest

from refusalctl.errors import BadInput
from refusalctl.stats.agreement import kappa, paired


def table(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    one = [True] * both + [True] * first + [False] * second + [False] * neither
    two = [True] * both + [False] * first + [True] * second + [False] * neither
    return one, two


def test_newcombe_s_interval_gives_the_published_limits() -> None:
    # Newcombe 1998, example 36 12 / 2 0: first minus second is .20, method 10 gives .0569 to .3404
    found = paired(*table(36, 12, 2, 0))
    assert (-found.high, -found.low) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    # Bentur et al. 2009, 1 1 / 7 12, in Fagerland, Lydersen and Laake 2017, chapter 8: -.507 to -.026
    found = paired(*table(1, 1, 7, 12))
    assert (-found.high, -found.low) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_no_change_at_all_still_has_a_width() -> None:
    found = paired([False] * 60, [False] * 60)
    assert (found.difference, found.p) == (0.0, 1.0)
    assert found.low == -found.high < -0.05


def test_exact_mcnemar_by_hand() -> None:
    found = paired(*table(5, 6, 0, 5))
    assert found.p == pytest.approx(2 * 0.5**6)
    assert found.difference == pytest.approx(-6 / 16)


def test_different_prompts_are_refused() -> None:
    for wrong in (([True], [True, False]), ([], [])):
        with pytest.raises(BadInput, match="must be of the same prompts"):
            paired(*wrong)


def test_kappa_by_hand_and_where_it_does_not_exist() -> None:
    first = ["refusal"] * 3 + ["compliance"] * 2
    second = ["refusal"] * 2 + ["compliance"] * 3
    # po = 4/5, pe = (3 * 2 + 2 * 3) / 25
    assert kappa(first, second) == pytest.approx((0.8 - 0.48) / 0.52)
    assert kappa(["refusal"] * 4, ["refusal"] * 4) is None
