"""Null directions: where they lie, how their damage is matched, and the p value that they give."""

from __future__ import annotations

import pytest
import torch

from refusalctl.errors import BadInput
from refusalctl.stats import controls


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_p_counts_ties_against_the_direction_and_is_never_zero() -> None:
    assert controls.p_value(3.0, [1.0] * 19) == 0.05
    assert controls.p_value(1.0, [1.0] * 19) == 1.0
    assert controls.p_value(1e-4, [0.0] * 19) == 1.0  # rounding is no effect
    assert controls.p_value(2.0, [1.0, 2.0, 3.0]) == 0.75
    for null in ([], [float("nan")]):
        with pytest.raises(BadInput):
            controls.p_value(1.0, null)


def weights(n: int, centred: torch.Tensor) -> torch.Tensor:
    return controls.coefficients(n, len(centred), generator())


def classes(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Harmful prompts vary along axes 0 and 2, harmless ones along 0 and 1; their means differ along 2."""
    x = torch.randn(2, n, 5, generator=generator())
    harmful = x[0] * torch.tensor([1.0, 0.0, 3.0, 0.0, 0.0]) + torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0])
    return harmful, x[1] * torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0]) - 4


def test_draws_vary_as_prompts_do_within_their_class_and_know_nothing_of_the_classes() -> None:
    centred = controls.deviations(*classes(), torch.eye(5)[3:4])
    draws = controls.within_class(centred, 2.0, weights(500, centred))
    torch.testing.assert_close(draws.norm(dim=1), torch.full((500,), 2.0))
    spread = draws.std(0)
    assert float(spread[2]) > float(spread[1]) > float(spread[0]) > 0.1
    assert float(draws[:, 3:].abs().max()) < 1e-4
    assert float(draws.mean(0).abs().max()) < 0.2  # centred on either class's own mean
    for still in (torch.ones(5, 4), torch.zeros(5, 4)):
        with pytest.raises(BadInput, match="do not vary"):
            controls.within_class(controls.deviations(still, still, torch.eye(4)[:1]), 1.0, torch.ones(3, 10).double())


def test_how_harmful_prompts_are_is_no_other_direction_and_what_harmless_ones_vary_along_stays() -> None:
    harmful, harmless = classes()
    along_both = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0]])
    found = controls.deviations(harmful, harmless, along_both)
    assert float((found[:400] @ along_both[0].double()).abs().max()) < 1e-9
    torch.testing.assert_close(found[400:], harmless.double() - harmless.double().mean(0))
    draws = controls.within_class(found, 1.0, weights(200, found))
    assert float((draws @ along_both[0]).abs().mean()) > 0.1  # free to lean on it as far as harmless prompts do


def test_subspaces_are_orthonormal_and_lie_where_prompts_vary() -> None:
    rows = torch.zeros(20, 9)
    rows[:, :4] = torch.randn(20, 4, generator=generator())
    centred = controls.deviations(rows[:10], rows[10:], torch.eye(9)[8:])
    found = controls.spans(controls.within_class(centred, 1.0, weights(22, centred)), 2)
    assert found.shape == (11, 2, 9)
    assert torch.allclose(found @ found.transpose(1, 2), torch.eye(2).expand(11, 2, 2), atol=1e-5)
    assert float(found[:, :, 4:].abs().max()) < 1e-5
    assert float((found[0] @ found[1].T).abs().max()) < 0.999
    rows[:, 1:] = 0
    narrow = controls.deviations(rows[:10], rows[10:], torch.eye(9)[8:])
    with pytest.raises(BadInput, match="fewer than 2"):
        controls.spans(controls.within_class(narrow, 1.0, weights(6, narrow)), 2)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_draw_that_damages_more_is_ablated_as_far_as_the_limit_allows(power: int) -> None:
    asked: list[float] = []

    def kl(strength: float) -> float:
        asked.append(strength)
        return 2.0 * strength**power

    assert controls.matched(kl, 2.0) == (1.0, 2.0)
    assert asked == [1.0]
    found = controls.matched(kl, 0.5)
    assert found is not None
    exact = 0.25 ** (1 / power)
    assert 0.9 * exact <= found.strength <= exact
    assert controls.MATCHED * 0.5 <= found.kl == kl(found.strength) <= 0.5
    assert len(asked) <= 1 + 1 + 3 + 1  # whole, whole again, tries, and this line: halving takes six tries
    assert controls.matched(lambda strength: 1.0 + strength, 0.5) is None
    waving = controls.matched(lambda s: 0.4 if 0.7 < s < 0.8 or s < 0.1 else 3.0, 0.5)
    assert waving is not None
    assert waving.kl <= 0.5  # measured there, whatever lies between


@pytest.mark.parametrize("step", [0.05, 0.3, 0.9])
def test_where_no_try_comes_near_the_limit_the_one_below_it_counts_with_its_own_damage(step: float) -> None:
    def kl(strength: float) -> float:
        return 0.1 if strength < step else 3.0

    found = controls.matched(kl, 0.5)
    assert found is not None
    assert found.kl == kl(found.strength) == 0.1  # below `MATCHED` of the limit, and measured at this very strength


def test_damage_too_small_to_matter_sets_no_limit() -> None:
    assert controls.damage_limit(0.41) == 0.41
    assert controls.damage_limit(0.0) == controls.damage_limit(-1e-9) == controls.NO_DAMAGE == 1e-3
    for wrong in (float("nan"), float("inf"), -0.1):
        with pytest.raises(BadInput):
            controls.damage_limit(wrong)
