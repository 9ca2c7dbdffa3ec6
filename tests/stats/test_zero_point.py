"""Where ablation puts a stream: the same zero for every language, between or beyond its own means."""

from __future__ import annotations

import pytest
import torch

from refusalctl.errors import BadInput
from refusalctl.stats.zero_point import zero_point


def test_the_zero_lies_where_the_means_say() -> None:
    r = torch.tensor([3.0, 0.0])
    for low, high, place in ((0.0, 3.0, 0.0), (-3.0, 0.0, 1.0), (-6.0, -3.0, 2.0), (1.5, 4.5, -0.5), (-1.0, 1.0, 0.5)):
        found = zero_point(r, torch.tensor([low, 7.0]), torch.tensor([high, -2.0]))
        assert (found.harmless, found.harmful, found.place) == (pytest.approx(low), pytest.approx(high), place)


def test_a_language_that_lies_the_other_way_round_is_placed_too() -> None:
    found = zero_point(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([1.0]))
    assert found.place == pytest.approx(2.0)  # 0 lies beyond the harmful mean


def test_means_that_lie_together_place_nothing() -> None:
    r = torch.tensor([2.0, 0.0])
    assert zero_point(r, torch.tensor([1.0, 0.0]), torch.tensor([1.19, 9.0])).place is None
    for bad in (torch.zeros(2), torch.tensor([float("nan"), 1.0])):
        with pytest.raises(BadInput, match="zero point"):
            zero_point(bad, r, r)
