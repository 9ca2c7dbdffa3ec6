"""Differences of independent rates: a published example, statsmodels, and missing labels against either end."""

from __future__ import annotations

import pytest

from refusalctl.errors import BadInput
from refusalctl.stats.rate_difference import newcombe, refusal_difference
from refusalctl.stats.rates import Rate


def test_limits_are_the_published_ones() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10
    assert newcombe(Rate(56, 70), Rate(48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe(Rate(9, 10), Rate(3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert newcombe(Rate(10, 10), Rate(0, 10)) == pytest.approx((0.6075, 1.0), abs=5e-5)


def test_limits_are_those_of_statsmodels() -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep

    for counts in ((32, 48, 8, 48), (0, 24, 0, 24), (64, 64, 63, 64)):
        expected = confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=0.1)
        assert newcombe(Rate(*counts[:2]), Rate(*counts[2:]), 0.1) == pytest.approx(expected)


def test_missing_labels_are_taken_against_either_end() -> None:
    plain = refusal_difference(["refusal"] * 30 + ["compliance"] * 10, ["compliance"] * 40)
    assert plain.value == pytest.approx(0.75)
    assert plain.interval95.low < plain.interval90.low < 0.75 < plain.interval90.high < plain.interval95.high
    found = refusal_difference(["refusal"] * 20 + ["unparsed"] * 10 + ["compliance"] * 10, ["compliance"] * 40)
    assert found.value == pytest.approx(20 / 30)
    assert found.interval95.high == pytest.approx(plain.interval95.high)
    assert found.interval95.low == pytest.approx(newcombe(Rate(20, 40), Rate(0, 40)).low)
    calm = refusal_difference(["refusal"] * 20 + ["compliance"] * 20, ["unparsed"] * 10 + ["compliance"] * 30)
    assert calm.interval95.low == pytest.approx(newcombe(Rate(20, 40), Rate(10, 40)).low)
    assert refusal_difference(["unparsed"] * 4, ["compliance"] * 4).value is None
    with pytest.raises(BadInput):
        refusal_difference([], ["refusal"])
