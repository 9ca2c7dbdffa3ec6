"""Null directions: what they keep, what they leave out, and the p value that they give."""

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


def test_subspaces_are_orthonormal_and_lie_where_harmless_prompts_vary() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.zeros(20, 9)
    rows[:, :4] = torch.randn(20, 4, generator=generator)
    found = controls.subspaces(rows, 2, 11, generator)
    assert found.shape == (11, 2, 9)
    assert torch.allclose(found @ found.transpose(1, 2), torch.eye(2).expand(11, 2, 2), atol=1e-5)
    assert float(found[:, :, 4:].abs().max()) < 1e-5
    assert float((found[0] @ found[1].T).abs().max()) < 0.999
    with pytest.raises(BadInput, match="no subspace"):
        controls.subspaces(rows[:2], 2, 3, generator)
    rows[:, 1:] = 0
    with pytest.raises(BadInput, match="fewer than 2"):
        controls.subspaces(rows, 2, 3, generator)


def test_shuffles_keep_the_class_sizes() -> None:
    labels = controls.shuffles(5, 3, 40, generator())
    assert labels.shape == (40, 8)
    assert set(labels.sum(1).tolist()) == {5}
    assert len({tuple(row) for row in labels.tolist()}) > 20


def test_shuffled_differences_equal_plain_means_without_the_real_direction() -> None:
    rows = (
        torch.randn(12, 6, generator=generator()) + torch.tensor([3.0, 0, 0, 0, 0, 0]) * (torch.arange(12) < 6)[:, None]
    )
    labels = controls.shuffles(6, 6, 9, generator())
    real = rows[:6].mean(0) - rows[6:].mean(0)
    found, cosine = controls.shuffled_differences(rows, labels, real)
    r_hat = real / real.norm()
    for i in range(9):
        plain = rows[labels[i]].mean(0) - rows[~labels[i]].mean(0)
        rest = plain - (plain @ r_hat) * r_hat
        torch.testing.assert_close(found[i], rest / rest.norm() * real.norm(), atol=1e-5, rtol=1e-5)
        assert float(cosine[i]) == pytest.approx(float((plain @ r_hat).abs() / plain.norm()), abs=1e-5)
    nothing = torch.outer(torch.randn(12, generator=generator()), r_hat)
    assert bool(controls.shuffled_differences(nothing, labels, real)[0].isnan().all())


def test_covariance_matched_draws_lie_where_harmless_prompts_vary() -> None:
    scale = torch.tensor([5.0, 1.0, 0.0, 0.0])
    harmless = torch.randn(400, 4, generator=generator()) * scale + 7
    draws = controls.covariance_matched(harmless, 2.0, 500, generator())
    torch.testing.assert_close(draws.norm(dim=1), torch.full((500,), 2.0))
    assert float(draws[:, 2:].abs().max()) < 1e-4
    assert float(draws[:, 0].abs().mean()) > 2 * float(draws[:, 1].abs().mean())
    even = controls.isotropic(4, 2.0, 500, generator())
    assert even.abs().mean(0).std() < 0.1
    with pytest.raises(BadInput, match="do not vary"):
        controls.covariance_matched(torch.ones(5, 4), 1.0, 3, generator())
