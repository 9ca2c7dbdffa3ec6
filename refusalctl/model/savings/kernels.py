"""x - r (r . x - t) in one kernel on a GPU: torch takes five, and every layer has two such places.

Written in Triton, which torch brings along for CUDA. `refusalctl.model.projection` says when it is used.
"""

from __future__ import annotations

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator]
def _project(x, basis, value, out, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    numbers = tl.load(x + row * width + at, mask=inside, other=0.0).to(tl.float32)
    r = tl.load(basis + at, mask=inside, other=0.0)
    along = tl.sum(numbers * r, axis=0) - tl.load(value)
    tl.store(out + row * width + at, (numbers - along * r).to(out.dtype.element_ty), mask=inside)


def project(
    x: Float[Tensor, "n d_model"], basis: Float[Tensor, " d_model"], value: Float[Tensor, " 1"]
) -> Float[Tensor, "n d_model"]:
    """A new tensor of x's dtype; `basis` is a unit vector and `value` the wanted component, both float32."""
    x = x.contiguous()
    out = x.new_empty(x.shape)
    if len(x):
        _project[(len(x),)](x, basis, value, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return out
