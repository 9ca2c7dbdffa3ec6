"""x - Q^T (Q x - t): the arithmetic of ablation, on any device."""

from collections.abc import Callable
from functools import cache
from subprocess import CalledProcessError

import torch
from jaxtyping import Float
from torch import Tensor

WIDEST = 2**14  # numbers of a row that the GPU's kernel holds at once

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


def project(
    x: Float[Tensor, "*any d_model"],
    basis: Float[Tensor, "rank d_model"],
    value: Float[Tensor, " rank"],
    strength: float = 1.0,
) -> Float[Tensor, "*any d_model"]:
    """A new tensor of x's shape and dtype, its components along `basis` (orthonormal rows) at `value`; with a
    `strength` below 1 moved by that share of the way.

    Computed in the dtype of `basis`: float32 for half precision.
    """
    flat = x.reshape(-1, x.shape[-1])
    whole = x.is_cuda and basis.dtype == torch.float32 and len(basis) == 1 and strength == 1.0
    kernel = fused() if whole else None
    if kernel is not None and x.shape[-1] <= WIDEST:
        with torch.cuda.device(x.device):  # where Triton launches; layers of a sharded model lie on several
            return kernel(flat, basis[0], value).view(x.shape)
    return plainly(flat, basis, value, strength).view(x.shape)


def plainly(
    x: Float[Tensor, "n d_model"],
    basis: Float[Tensor, "rank d_model"],
    value: Float[Tensor, " rank"],
    strength: float = 1.0,
) -> Float[Tensor, "n d_model"]:
    """With torch's operations."""
    wide = x.to(basis.dtype)
    along = wide @ basis.T - value
    if len(basis) == 1:  # twice as fast as the general product, and nearly every intervention has one direction
        return torch.addr(wide, along[:, 0], basis[0], alpha=-strength).to(x.dtype)
    return torch.addmm(wide, along, basis, alpha=-strength).to(x.dtype)


@cache
def fused() -> Kernel | None:
    """The GPU's kernel, compared with `plainly`; None where Triton or a C compiler for its launcher is missing."""
    try:
        from refusalctl.model.savings.kernels import project as kernel
    except ImportError:
        return None
    generator = torch.Generator().manual_seed(0)
    x, r = (torch.randn(*shape, generator=generator).cuda() for shape in ((3, 100), (1, 100)))
    r, value = r / r.norm(), torch.tensor([0.5], device="cuda")
    try:
        same = torch.allclose(kernel(x, r[0], value), plainly(x, r, value), atol=1e-5)
    except (RuntimeError, OSError, CalledProcessError):
        return None
    return kernel if same else None
