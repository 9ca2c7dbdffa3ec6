"""Logits and residual stream are finite wherever they are read, or the step stops and says what helps.

Half precision overflows, damaged weights hold NaN, attention over a row that is masked everywhere divides by zero. What
follows looks like a finding: NaN logits have no largest entry, so answers are empty, and NaN is unlike everything.
"""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers.generation.logits_process import LogitsProcessor

from refusalctl.errors import ModelError


class NotFinite(ModelError):
    """NaN or infinite values in a pass: `layer` is the first whose stream holds one, None where that is not known."""

    def __init__(self, message: str, *, hint: str | None = None, layer: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.layer = layer


def is_broken(logits: Tensor) -> Bool[Tensor, ""]:
    """Whether a row of logits (last axis) holds NaN or +inf, or nothing but -inf. Stays on the device.

    Single entries may be -inf: some models rule tokens out that way. One reduction: a maximum passes NaN on.
    """
    return ~torch.isfinite(logits.amax(-1)).all()


def require_finite(logits: Tensor, model: Any, step: str) -> None:
    """Raise `NotFinite` for logits that are broken; waits for the device."""
    if bool(is_broken(logits)):
        raise not_finite(model, step, "logits")


def not_finite(model: nn.Module, step: str, what: str, layer: int | None = None) -> NotFinite:
    """The error of a step that met NaN or infinite values; looks for its cause in the weights."""
    dtype = str(next((p.dtype for p in model.parameters() if p.is_floating_point()), "")).removeprefix("torch.")
    where = f"the {what}" if layer is None else f"the {what} that enters layer {layer}"
    holds = "hold" if what == "logits" else "holds"
    whose = f" of {type(model).__name__} {holds} NaN or infinite values in {dtype}" if dtype else ""
    told = f"{step}: {where}{whose or f' {holds} NaN or infinite values'}"
    broken = next((name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())), None)
    wider = {"float16": "--dtype bfloat16 or float32", "bfloat16": "--dtype float32"}.get(dtype)
    if broken is not None:
        cast = f"if they are finite in their files, {dtype} is too narrow for them: try {wider}; " if wider else ""
        return NotFinite(
            f"{told}; the weights {broken} do, too", hint=f"{cast}else the checkpoint is damaged", layer=layer
        )
    hint = f"{dtype} overflows here: try {wider}" if wider else "try --attention eager; the weights are finite"
    return NotFinite(told, hint=hint, layer=layer)


class AllFinite(LogitsProcessor):
    """Looks at the logits of every step of `generate`; the device is asked once, when all is written."""

    def __init__(self) -> None:
        self.broken: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        found = is_broken(scores)
        self.broken = found if self.broken is None else self.broken | found
        return scores

    def require(self, model: Any, step: str) -> None:
        """Raise `NotFinite` if any were broken."""
        if self.broken is not None and bool(self.broken):
            raise not_finite(model, step, "logits")
