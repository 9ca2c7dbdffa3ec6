"""Passes that a GPU records and repeats without Python (CUDA graphs), over tensors that keep their place.

Recorded work must not wait for the device: masks are made beforehand, and nothing is copied from the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refusalctl.model.batching import free
from refusalctl.model.chat import Batch
from refusalctl.model.hooks import Checks, Intervention, Session
from refusalctl.model.residual import Residual

if TYPE_CHECKING:
    from refusalctl.model.chat_model import ChatModel

MASKED = ("sdpa", "eager")  # attention that takes a ready mask
# what recording raises for work that waits for the device (experts, rotations that depend on the length) or runs out of
# memory, and models for a mask that they cannot read (ALiBi)
UNRECORDABLE = (RuntimeError, ValueError)

T = TypeVar("T")


def can_record(chat_model: ChatModel) -> bool:
    """Whether it is worth a try: all of the model on the current GPU, and attention that takes a ready mask."""
    model, device = chat_model.model, chat_model.device
    return (
        device.type == "cuda"
        and device.index == torch.cuda.current_device()
        and {p.device for p in model.parameters()} == {device}
        and model.config.get_text_config()._attn_implementation in MASKED
    )


def recorded(work: Callable[[], T], checks: Checks) -> Callable[[], T]:
    """Repeats `work`, which runs once more before; what it gives lies in the same place every time.

    Recording runs nothing, so what hooks count then is counted at every repetition.
    """
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(current)
    with torch.cuda.stream(side):  # libraries set up on this stream what recording must not
        work()
    current.wait_stream(side)
    graph, before = torch.cuda.CUDAGraph(), checks.fired
    try:
        with torch.cuda.graph(graph):
            found = work()
    except BaseException:  # torch leaves the recording's stream in place
        torch.cuda.set_stream(current)
        checks.fired = before
        raise
    fired, checks.fired = checks.fired - before, before

    def again() -> T:
        graph.replay()
        checks.fired += fired
        return found

    return again


class CapturedPass(Generic[T]):
    """Work under an ablation that was recorded; every other ablation of its kind takes that one's place."""

    def __init__(self, session: Session, again: Callable[[], T]) -> None:
        self.session, self.again = session, again

    def run(self, intervention: Intervention) -> tuple[T, Checks]:
        """What the work gives, in tensors that the next call writes over, and what its hooks saw (not verified)."""
        self.session.replace_direction(intervention)
        found = self.again()
        seen = Checks()
        seen.merge(self.session.checks)
        return found, seen


def repeated(residual: Residual, intervention: Intervention, work: Callable[[], T]) -> CapturedPass[T] | None:
    """`work` under an ablation, recorded; None where it cannot be, or where what it keeps does not fit into memory."""
    session = Session(residual, intervention)
    try:
        with session.on():
            return CapturedPass(session, recorded(work, session.checks))
    except UNRECORDABLE:
        pass
    free()
    return None


def masking(seen: Bool[Tensor, "batch 1 seq total"], dtype: torch.dtype) -> Float[Tensor, "batch 1 seq total"]:
    """What is added to attention's scores: 0 where a token is seen."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)


def causal_mask(batch: Batch, dtype: torch.dtype) -> Float[Tensor, "batch 1 seq total"]:
    """For `batch.ids`, the last of the columns of `batch.mask`."""
    width, total = batch.ids.shape[1], batch.mask.shape[1]
    column = torch.arange(total, device=batch.ids.device)
    before = column <= column[total - width :, None]
    return masking(batch.mask.bool()[:, None, None] & before, dtype)
