"""Record and intervene on the residual stream through hooks that are always removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.residual import Residual, block_input, hidden_of, unit

InterventionKind = Literal["none", "ablate", "add"]
TOLERANCE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1}  # of |r_hat . x| / |x| after a block


@dataclass(frozen=True)
class Intervention:
    """What is done to the residual stream: one explicit object, nothing besides it.

    - `none`: nothing.
    - `ablate`: x - r_hat (r_hat . x) at the embedding and at every write of every layer, all positions
      (Arditi et al. 2024, section 2.4, equation 4).
    - `add`: x + coeff * r at `layer`'s input, all positions (equation 3; `direction` is not normalised).
    """

    kind: InterventionKind = "none"
    direction: Float[Tensor, " d_model"] | None = None
    layer: int | None = None
    coeff: float = 1.0

    def check(self, residual: Residual) -> None:
        """Raise `BadInput` unless this fits the model."""
        if self.kind == "none":
            return
        if self.direction is None:
            raise BadInput(f"the intervention {self.kind!r} needs a direction", hint="give --direction REF")
        if self.direction.shape != (residual.d_model,):
            raise BadInput(
                f"the direction has width {tuple(self.direction.shape)}, "
                f"the model's residual stream {residual.d_model}",
                hint="take a direction that was extracted from this model",
            )
        if self.kind == "add" and (self.layer is None or not 0 <= self.layer < residual.n_layers):
            raise BadInput(f"activation addition needs a layer from 0 to {residual.n_layers - 1}, found {self.layer}")


@dataclass
class Checks:
    """What the hooks saw: how often they fired, and the stream's largest relative projection on the direction.

    The projection is |r_hat . x| / |x| after every block at the last position, so 0 means fully ablated.
    """

    fired: int = 0
    worst: dict[torch.device, Tensor] = field(default_factory=dict)

    def measure(self, share: Tensor) -> None:
        """Keep the largest, on its device: reading it here would make the device wait at every block."""
        known = self.worst.get(share.device)
        self.worst[share.device] = share if known is None else torch.maximum(known, share)

    @property
    def max_projection(self) -> float | None:
        """The largest relative projection seen, or None where nothing was ablated."""
        return max((float(t) for t in self.worst.values()), default=None)

    def verify(self, dtype: str) -> None:
        """Raise `ModelError` if something is left along the direction, beyond rounding, or is not a number."""
        found = self.max_projection
        if found is not None and not found <= TOLERANCE[dtype]:
            raise ModelError(
                f"after ablation the residual stream keeps a share of {found:.2g} along the direction, "
                f"at most {TOLERANCE[dtype]:g} is rounding in {dtype}",
                hint="try --dtype float32; if it stays, this architecture is not supported",
            )


def ablate(x: Float[Tensor, "... d_model"], r_hat: Float[Tensor, " d_model"]) -> Float[Tensor, "... d_model"]:
    """x - r_hat (r_hat . x): a new tensor without the component along the unit vector `r_hat`."""
    return x - (x @ r_hat)[..., None] * r_hat


def _replace(output: Any, new: Tensor) -> Any:
    if isinstance(output, tuple):
        return (new, *output[1:])
    if isinstance(output, list):
        return [new, *output[1:]]
    return new


def _replace_input(args: tuple[Any, ...], kwargs: dict[str, Any], new: Tensor) -> tuple[Any, Any]:
    if args:
        return (new, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": new}


@contextmanager
def intervene(residual: Residual, intervention: Intervention) -> Iterator[Checks]:
    """Hold an intervention during the `with` block. Raises `ModelError` on leaving if no hook fired."""
    intervention.check(residual)
    checks = Checks()
    handles: list[Any] = []
    try:
        if intervention.kind == "ablate":
            assert intervention.direction is not None
            _hook_ablation(residual, unit(intervention.direction), checks, handles)
        elif intervention.kind == "add":
            assert intervention.direction is not None
            assert intervention.layer is not None
            _hook_addition(residual, intervention, checks, handles)
        yield checks
        if intervention.kind != "none" and checks.fired == 0:
            raise ModelError("the intervention's hooks never fired: the model ran none of its decoder blocks")
    finally:
        for handle in handles:
            handle.remove()


def _hook_ablation(residual: Residual, r_hat: Float[Tensor, " d_model"], checks: Checks, handles: list[Any]) -> None:
    placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(x: Tensor) -> Tensor:
        key = (x.device, x.dtype)
        if key not in placed:
            placed[key] = r_hat.to(x.device, x.dtype)
        return placed[key]

    def on_write(_m: nn.Module, _a: Any, output: Any) -> Any:
        checks.fired += 1
        x = hidden_of(output)
        return _replace(output, ablate(x, like(x)))

    def on_embedding(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        checks.fired += 1
        x = block_input(args, kwargs)
        return _replace_input(args, kwargs, ablate(x, like(x)))

    def measure(_m: nn.Module, _a: Any, output: Any) -> None:
        # the proof that the right places were hooked: the stream itself has nothing left along r_hat
        x = hidden_of(output)[:, -1]
        checks.measure(((x @ like(x)).abs() / x.norm(dim=-1).clamp(min=1e-6)).max())

    handles.append(residual.blocks[0].register_forward_pre_hook(on_embedding, with_kwargs=True))
    for block, writes in zip(residual.blocks, residual.writes):
        handles.extend(module.register_forward_hook(on_write) for module in writes)
        handles.append(block.register_forward_hook(measure))


def _hook_addition(residual: Residual, intervention: Intervention, checks: Checks, handles: list[Any]) -> None:
    assert intervention.direction is not None
    assert intervention.layer is not None
    step = intervention.coeff * intervention.direction.to(torch.float32)

    def on_input(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        checks.fired += 1
        x = block_input(args, kwargs)
        return _replace_input(args, kwargs, x + step.to(x.device, x.dtype))

    handles.append(residual.blocks[intervention.layer].register_forward_pre_hook(on_input, with_kwargs=True))


@contextmanager
def record(
    residual: Residual, positions: list[int], out: Float[Tensor, "batch n_pos n_layers d_model"]
) -> Iterator[None]:
    """Copy `resid_pre` of every block at `positions` (negative, from the prompt's end) into `out`."""
    handles = []

    def keep(index: int) -> Any:
        def hook(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            out[:, :, index] = block_input(args, kwargs)[:, positions].to(out.device, out.dtype)

        return hook

    try:
        for index, block in enumerate(residual.blocks):
            handles.append(block.register_forward_pre_hook(keep(index), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
