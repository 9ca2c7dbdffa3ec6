"""The arithmetic of ablation."""

from __future__ import annotations

import pytest
import torch

from refusalctl.model.projection import fused, plainly, project


def rows(rank: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    basis = torch.linalg.qr(torch.randn(40, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0].T
    return basis.to(dtype).contiguous(), torch.linspace(-1, 2, rank, dtype=dtype)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_components_are_put_where_they_are_asked_for_and_nothing_else_moves(
    rank: int, dtype: torch.dtype, rounding: float
) -> None:
    basis, value = rows(rank, torch.promote_types(dtype, torch.float32))
    x = torch.randn(2, 5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).to(dtype)
    found = project(x, basis, value)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    wide, before = found.double(), x.double()
    along = basis.double()
    torch.testing.assert_close(wide @ along.T, value.double().expand(2, 5, rank), atol=rounding, rtol=0)
    others = torch.eye(40, dtype=torch.float64) - along.T @ along
    torch.testing.assert_close(wide @ others, before @ others, atol=rounding, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [576, 3584, 16384, 20000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_gives_what_torch_gives(dtype: torch.dtype, width: int) -> None:
    assert fused() is not None
    x = torch.randn(3, 50, width, device="cuda").to(dtype).transpose(0, 1)  # not contiguous
    r = torch.randn(1, width, device="cuda")
    r, value = r / r.norm(), torch.tensor([0.3], device="cuda")
    expected = plainly(x.reshape(-1, width), r, value).view(x.shape)
    torch.testing.assert_close(project(x, r, value), expected)
