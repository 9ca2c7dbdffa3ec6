"""Agreement of two judges by hand."""

from __future__ import annotations

import pytest

from refusalctl.stats.agreement import kappa


def test_kappa_by_hand_and_where_it_does_not_exist() -> None:
    first = ["refusal"] * 3 + ["compliance"] * 2
    second = ["refusal"] * 2 + ["compliance"] * 3
    # po = 4/5, pe = (3 * 2 + 2 * 3) / 25
    assert kappa(first, second) == pytest.approx((0.8 - 0.48) / 0.52)
    assert kappa(["refusal"] * 4, ["refusal"] * 4) is None
