"""Control draws shared by cells: exact family-wise error, power beside Holm, acceptance and early stopping."""

from __future__ import annotations

import numpy as np
import pytest

from refusalctl.errors import BadInput
from refusalctl.stats.max_t import smallest_p, step_down
from refusalctl.stats.paired import holm


def effects(
    rng: np.random.Generator, draws: int, cells: int, shift: np.ndarray, rho: float = 0.5
) -> tuple[list[float], np.ndarray]:
    """Standard normal effects of control directions and of the real one, which is shifted; correlated between cells."""
    both = rho**0.5 * rng.normal(size=(draws + 1, 1)) + (1 - rho) ** 0.5 * rng.normal(size=(draws + 1, cells))
    return [float(x) for x in both[-1] + shift], both[:-1]


def test_one_cell_gives_the_permutation_p() -> None:
    rng = np.random.default_rng(0)
    for shift in (-1.0, 0.0, 1.0):
        real, null = effects(rng, 39, 1, np.array([shift]))
        b = int((null[:, 0] > real[0] - 0.01).sum())
        assert step_down(real, null) == [pytest.approx((b + 1) / 40)]


def test_the_smallest_p_does_not_depend_on_the_number_of_cells() -> None:
    rng = np.random.default_rng(1)
    for cells in (1, 6, 30):
        real, null = effects(rng, 19, cells, np.full(cells, 20.0))
        assert step_down(real, null) == [pytest.approx(smallest_p(19))] * cells == [pytest.approx(0.05)] * cells
    with pytest.raises(BadInput, match="no p-value"):
        smallest_p(0)


def test_steps_keep_their_order_and_go_down() -> None:
    null = np.array([[0.0, 0.0, 0.0], [1.0, -1.0, 0.5], [-1.0, 1.0, -0.5], [0.5, 0.5, 0.0]])
    found = step_down([5.0, 0.9, -3.0], null, tie=0.0)
    assert found[0] == pytest.approx(1 / 5)
    assert found[0] <= found[1] <= found[2]
    assert found[2] == 1.0


@pytest.mark.parametrize(("draws", "cells"), [(19, 6), (39, 30)])
def test_family_wise_error_is_five_percent_under_the_global_null(draws: int, cells: int) -> None:
    rng, n = np.random.default_rng(2), 1500
    wrong = sum(min(step_down(*effects(rng, draws, cells, np.zeros(cells)))) <= 0.05 for _ in range(n))
    assert wrong / n <= 0.05 + 3 * (0.05 * 0.95 / n) ** 0.5


def test_family_wise_error_holds_where_half_the_cells_are_true() -> None:
    rng, n, shift = np.random.default_rng(3), 1000, np.array([6.0, 6.0, 6.0, 0.0, 0.0, 0.0])
    wrong = sum(min(step_down(*effects(rng, 39, 6, shift))[3:]) <= 0.05 for _ in range(n))
    assert wrong / n <= 0.05 + 3 * (0.05 * 0.95 / n) ** 0.5


def test_power_where_holm_has_none() -> None:
    """Six cells, 19 draws: Holm's smallest p is 6 / 20; half the cells true, 4 standard deviations."""
    rng, n, shift = np.random.default_rng(4), 300, np.array([4.0, 4.0, 4.0, 0.0, 0.0, 0.0])
    by_max, by_holm = 0, 0
    for i in range(n):
        real, null = effects(rng, 19, 6, shift)
        by_max += sum(p <= 0.05 for p in step_down(real, null)[:3])
        if i < 5:  # 1 / 20 at best, times 6
            raw = [(int((null[:, k] >= real[k]).sum()) + 1) / 20 for k in range(6)]
            by_holm += sum(p <= 0.05 for p in holm(raw)[:3])
    assert by_holm == 0
    assert by_max / (3 * n) > 0.75


def test_a_difference_of_rounding_is_no_effect() -> None:
    null = np.zeros((39, 2))
    assert step_down([0.005, 0.0], null) == [1.0, 1.0]
    assert step_down([0.5, 0.0], null)[0] == pytest.approx(1 / 40)


def test_numbers_that_are_none_are_refused() -> None:
    for real, null in (([float("nan")], [[1.0]]), ([1.0], [[float("inf")]]), ([], [[]]), ([1.0, 2.0], [[1.0]])):
        with pytest.raises(BadInput):
            step_down(real, null)
