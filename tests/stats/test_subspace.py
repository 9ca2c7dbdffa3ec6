"""A basis of several directions, against what was planted."""

from __future__ import annotations

import pytest
import torch

from refusalctl.errors import BadInput
from refusalctl.stats.subspace import contrastive_basis

D = 12


def planted(n: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Harmful prompts vary in a plane; both classes vary along a topic, more than in that plane."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64)).Q.T
    angle = torch.rand(n, generator=generator, dtype=torch.float64) * torch.pi / 2
    noise = 0.02 * torch.randn(2, n, D, generator=generator, dtype=torch.float64)
    topic = 3.0 * torch.randn(2, n, 1, generator=generator, dtype=torch.float64) * frame[2]
    harmful = angle.cos()[:, None] * frame[0] + angle.sin()[:, None] * frame[1] + topic[0] + noise[0]
    return harmful.float(), (topic[1] + noise[1]).float(), frame


def test_the_basis_spans_the_planted_plane_and_not_the_topic() -> None:
    harmful, harmless, frame = planted(400, seed=0)
    # the topic is balanced, so that the difference of means is in the plane
    harmful = harmful - (harmful.double() @ frame[2]).mean().float() * frame[2].float()
    harmless = harmless - (harmless.double() @ frame[2]).mean().float() * frame[2].float()
    basis = contrastive_basis(harmful, harmless, 2).double()
    assert torch.allclose(basis @ basis.T, torch.eye(2, dtype=torch.float64), atol=1e-6)
    inside = torch.linalg.svdvals(basis @ frame[:2].T)
    assert inside.min() > 0.99


def test_the_first_row_is_the_difference_in_means() -> None:
    harmful, harmless, _ = planted(50, seed=1)
    first = contrastive_basis(harmful, harmless, 1)[0]
    difference = harmful.double().mean(0) - harmless.double().mean(0)
    assert torch.allclose(first.double(), difference / difference.norm(), atol=1e-6)


def test_too_few_prompts_or_no_further_variation_is_an_error() -> None:
    harmful, harmless, _ = planted(8, seed=2)
    with pytest.raises(BadInput, match="more than 8 prompts"):
        contrastive_basis(harmful, harmless, 8)
    with pytest.raises(BadInput, match="further directions"):
        contrastive_basis(harmless + 1.0, torch.cat([harmless, 2 * harmless]), 3)
    with pytest.raises(BadInput, match="same mean"):
        contrastive_basis(harmful, harmful, 2)
