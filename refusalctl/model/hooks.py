"""Record and intervene on the residual stream through hooks that are always removed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.finite import not_finite
from refusalctl.model.intervention_words import InterventionKind
from refusalctl.model.interventions import Intervention, Target
from refusalctl.model.projection import project
from refusalctl.model.residual import Residual, block_input, hidden_of
from refusalctl.model.transformers_types import Arguments, Keywords

__all__ = ["Checks", "Intervention", "InterventionKind", "ablate", "intervene", "record"]

# what rounding leaves of |Q x - t| / |x| after a block; measured on 40 architectures it stays 20 times below
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.05}


UNSEEN = -1.0  # below every share: the first that is measured takes its place


@dataclass
class Checks:
    """What the hooks saw: how often they changed something, and how far the stream is from where it was put.

    That is |Q x - t| / |x| after every block, at the last position or at the positions that were asked for: 0 means
    that nothing is left along the direction (affine: besides the mean's component; partial ablation: t is what was
    left of the entering stream and of every write, added up).

    `repeated`: whether a GPU repeated steps that it had recorded; `deviation`: the largest KL (nats) that this made.
    """

    fired: int = 0
    worst: dict[torch.device, Tensor] = field(default_factory=dict)
    tolerance: float = TOLERANCE[torch.float32]
    repeated: bool = False
    deviation: float = 0.0

    def measure(self, share: Tensor) -> None:
        """Keep the largest, on its device and in its place: reading it would make the device wait."""
        known = self.worst.get(share.device)
        if known is None:
            self.worst[share.device] = share.clone()
        else:
            torch.maximum(known, share, out=known)

    @property
    def max_projection(self) -> float | None:
        """The largest share seen (NaN if one was), or None where nothing was ablated."""
        found = [float(t) for t in self.worst.values()]
        return next((f for f in found if f != f), max(found)) if found else None

    def merge(self, other: "Checks") -> None:
        """Take over what another `intervene` saw."""
        self.fired += other.fired
        self.tolerance = max(self.tolerance, other.tolerance)
        self.repeated |= other.repeated
        self.deviation = max(self.deviation, other.deviation)
        for share in other.worst.values():
            self.measure(share)

    def as_json(self) -> dict[str, float | int | None]:
        """The figures that a run keeps."""
        return {"hooks_fired": self.fired, "max_relative_projection": self.max_projection}

    def to_row(self) -> dict[str, float | int | bool | None]:
        """All of it, as numbers that outlive the process."""
        return self.as_json() | {"repeated": self.repeated, "deviation": self.deviation}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Checks":
        """What `to_row` gave."""
        seen = cls(row["hooks_fired"], repeated=row["repeated"], deviation=row["deviation"])
        if row["max_relative_projection"] is not None:
            seen.measure(torch.tensor(row["max_relative_projection"]))
        return seen

    def verify(self, model: nn.Module | None = None) -> None:
        """Raise `ModelError` if something is left along the direction, beyond rounding, or is not a number.

        `model` is asked what made it so.
        """
        found = self.max_projection
        if found is not None and found != found:
            raise not_finite(model or nn.Identity(), "measuring what an ablation leaves", "residual stream")
        if found is not None and found < 0:
            raise ModelError("the stream under a repeated ablation was not measured: its passes did not run")
        if found is not None and not found <= self.tolerance:
            raise ModelError(
                f"after ablation the residual stream keeps a share of {found:.2g} along the direction, "
                f"at most {self.tolerance:g} is rounding",
                hint="try --dtype float32; if it stays, this architecture is not supported",
            )


def ablate(x: Float[Tensor, "... d_model"], r_hat: Float[Tensor, " d_model"]) -> Float[Tensor, "... d_model"]:
    """x - r_hat (r_hat . x): a new tensor without the component along the unit vector `r_hat`."""
    return x - (x @ r_hat)[..., None] * r_hat


@contextmanager
def intervene(residual: Residual, intervention: Intervention, prompt_length: int | None = None) -> Iterator[Checks]:
    """Hold an intervention during the `with` block.

    With `positions`, a forward without a key-value cache is taken to hold exactly the prompts (left-padded), and
    what follows with a cache is the answer; `prompt_length` says otherwise (in tokens, padding included).

    Raises `ModelError` on leaving if no hook fired, or if the stream was not where the intervention puts it.
    """
    session = Session(residual, intervention, prompt_length)
    with session.on():
        yield session.checks
        if intervention.kind != "none" and session.checks.fired == 0:
            raise ModelError("the intervention's hooks never fired: the model ran none of its decoder blocks")
        session.checks.verify(residual.root)


class Session:
    """The hooks of one intervention, and what they need to know about the forward pass that is running."""

    def __init__(self, residual: Residual, asked: Intervention, prompt_length: int | None = None) -> None:
        asked.check(residual)
        self.residual, self.asked, self.checks, self.hooks = residual, asked, Checks(), ExitStack()
        self.prompt_length, self.fixed_length = prompt_length, prompt_length is not None
        self.shape: tuple[int, ...] = ()
        self.columns: list[int] | None = None  # None is all
        self.tails: list[Tensor] = []
        self.left: Tensor | None = None  # Q . stream as partial ablation left it, at the measured tokens
        self.kept: list[Tensor] = []
        self.target: Target | None = None if asked.kind in ("add", "none") else asked.target()
        self._placed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]] = {}
        self._steps: dict[torch.device, Tensor] = {}

    @property
    def is_partial(self) -> bool:
        return self.asked.strength != 1.0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Hooks on the model during the `with` block."""
        with self.hooks:
            if self.asked.kind != "none":
                self.place()
            yield

    def replace_direction(self, asked: Intervention) -> None:
        """Another ablation of the same kind and rank, where passes that were recorded read it; nothing seen yet."""
        asked.check(self.residual)
        n_layers = self.residual.n_layers
        assert (asked.kind, asked.rank, asked.acts_at(n_layers), asked.positions, asked.strength) == (
            self.asked.kind,
            self.asked.rank,
            self.asked.acts_at(n_layers),
            self.asked.positions,
            self.asked.strength,
        )
        self.asked, self.target = asked, asked.target()
        for known in self._placed.values():
            for there, new in zip(known, self.target):
                there.copy_(new)
        for worst in self.checks.worst.values():
            worst.fill_(UNSEEN)
        self.checks.fired = 0

    def place(self) -> None:
        layers = self.asked.acts_at(self.residual.n_layers)
        if self.asked.positions is not None:
            self._keep(self.residual.root.register_forward_pre_hook(self.on_forward, with_kwargs=True))
        self._keep(self.residual.blocks[0].register_forward_pre_hook(self.on_first_block, with_kwargs=True))
        if self.target is None:
            for layer in layers:
                self._keep(self.residual.blocks[layer].register_forward_pre_hook(self.on_addition, with_kwargs=True))
            return
        for layer in layers:
            self._place_ablation(layer, enters=layer - 1 not in layers, last=layer == layers[-1])

    def _keep(self, handle: RemovableHandle) -> None:
        self.hooks.callback(handle.remove)

    def _place_ablation(self, layer: int, *, enters: bool, last: bool) -> None:
        block = self.residual.blocks[layer]
        if enters:
            self._keep(block.register_forward_pre_hook(self.on_entry, with_kwargs=True))
        scale = self.residual.scales[layer] if self.residual.scales else 1.0
        if self.is_partial and scale != 1.0:
            self._keep(block.register_forward_pre_hook(partial(self.on_scaling, scale), with_kwargs=True))
        writes = self.residual.writes[layer]
        weights = self.residual.weights[layer] if self.is_partial and self.residual.weights else (1.0,) * len(writes)
        for module, weight in zip(writes, weights, strict=True):
            self._keep(module.register_forward_hook(partial(self.on_write, weight)))
        if self.asked.kind == "affine" and self.residual.scales[layer] != 1.0:
            self._keep(block.register_forward_hook(self.on_scaled))  # the block scales what it was given
        self._keep(block.register_forward_hook(self.on_last_measured if last else self.on_measured))

    # --- which tokens ------------------------------------------------------------------------------------

    def on_forward(self, _m: nn.Module, _args: Arguments, kwargs: Keywords) -> None:
        cache = kwargs.get("past_key_values")
        if kwargs.get("cache_params") is not None:
            raise ModelError("chosen positions need a key-value cache that knows its length; this model has another")
        self.offset = 0 if cache is None else int(cache.get_seq_length())

    def on_first_block(self, _m: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        self.shape = tuple(block_input(args, kwargs).shape)
        self.tails = []
        if self.asked.positions is None:
            return
        width = self.shape[1]
        if self.offset == 0 and not self.fixed_length:
            self.prompt_length = width
        if self.prompt_length is None:
            raise ModelError("chosen positions need the prompt's length: the first forward already had a cache")
        if min(self.asked.positions) < -self.prompt_length:
            raise BadInput(f"a prompt of {self.prompt_length} tokens has no position {min(self.asked.positions)}")
        places = (self.prompt_length + p - self.offset for p in sorted(set(self.asked.positions)))
        self.columns = [place for place in places if 0 <= place < width]

    def _change(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """A new tensor with `change` done to the chosen tokens; `x` may come with batch and tokens flattened."""
        if self.columns == []:
            return x
        self.checks.fired += 1
        if self.columns is None:
            return change(x)
        whole = x.reshape(self.shape).clone()
        whole[:, self.columns] = change(whole[:, self.columns])
        return whole.view(x.shape)

    # --- what is done to them ----------------------------------------------------------------------------

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, t and 0 on the device and in the dtype of the arithmetic: half precision is computed in float32."""
        key = (x.device, x.dtype)
        if key not in self._placed:
            assert self.target is not None
            wide = x.dtype if x.dtype == torch.float64 else torch.float32
            basis, value = (t.to(x.device, wide) for t in self.target)
            self._placed[key] = (basis, value, torch.zeros_like(value))
        return self._placed[key]

    def _put(self, x: Tensor) -> Tensor:
        """x - Q^T (Q x - t), or that share of it."""
        basis, value, _ = self._like(x)
        return project(x, basis, value, self.asked.strength)

    def _remove(self, x: Tensor) -> Tensor:
        """x - Q^T Q x, or that share of it."""
        basis, _, zero = self._like(x)
        return project(x, basis, zero, self.asked.strength)

    def _add(self, x: Tensor) -> Tensor:
        assert self.asked.direction is not None
        wide = torch.promote_types(x.dtype, torch.float32)
        if x.device not in self._steps:  # copied once: a copy makes the device wait
            self._steps[x.device] = self.asked.coeff * self.asked.direction.to(x.device, wide)
        return (x.to(wide) + self._steps[x.device]).to(x.dtype)

    def on_write(self, weight: float, _m: nn.Module, _a: Arguments, output: object) -> object:
        new = self._change(hidden_of(output), self._remove)
        if self.is_partial and self.left is not None and self.columns != []:
            self.left = self.left + weight * self._along(new).to(self.left.device)
        return _replace(output, new)

    def on_scaling(self, scale: float, _m: nn.Module, _args: Arguments, _kwargs: Keywords) -> None:
        if self.left is not None:
            self.left = self.left * scale

    def on_scaled(self, _m: nn.Module, _a: Arguments, output: object) -> object:
        return _replace(output, self._change(hidden_of(output), self._put))

    def on_entry(self, _m: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        new = self._change(block_input(args, kwargs), self._put)
        if self.is_partial and self.columns != []:
            self.left = self._along(new)
        return _replace_input(args, kwargs, new)

    def on_addition(self, _m: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        return _replace_input(args, kwargs, self._change(block_input(args, kwargs), self._add))

    # --- the proof that the right places were hooked: the stream itself is where it was put ---------------

    def _along(self, x: Tensor) -> Tensor:
        """Q x [n_measured, rank] at the tokens that are measured."""
        basis, _, _ = self._like(x)
        whole = x.reshape(self.shape)
        seen = whole[:, -1] if self.columns is None else whole[:, self.columns].flatten(0, 1)
        return seen.to(basis.dtype) @ basis.T

    def on_measured(self, _m: nn.Module, _a: Arguments, output: object) -> None:
        x = hidden_of(output)
        if self.is_partial and self.left is not None and self.columns != []:
            self.kept.append(self.left)
        if self.columns is None:
            # a copy of one token, not a view: a view would keep the whole block's output in memory
            self.tails.append(x[:, -1] if x.shape[1] == 1 else x[:, -1].clone())
        elif self.columns:
            self.tails.append(x[:, self.columns].flatten(0, 1))

    def on_last_measured(self, module: nn.Module, args: Arguments, output: object) -> None:
        """All blocks at once: a handful of operations per forward instead of per block."""
        self.on_measured(module, args, output)
        for device in {t.device for t in self.tails}:
            here = [i for i, t in enumerate(self.tails) if t.device == device]
            x = torch.cat([self.tails[i] for i in here])
            basis, value, _ = self._like(x)
            if self.is_partial:
                value = torch.cat([self.kept[i].to(device) for i in here])
            x = x.to(basis.dtype)
            left = (x @ basis.T - value).norm(dim=-1)
            self.checks.measure((left / x.norm(dim=-1).clamp(min=1e-6)).max())
            self.checks.tolerance = TOLERANCE[hidden_of(output).dtype]
        self.tails, self.kept = [], []


def _replace(output: object, new: Tensor) -> object:
    if isinstance(output, tuple):
        return (new, *output[1:])
    if isinstance(output, list):
        return [new, *output[1:]]
    return new


def _replace_input(args: Arguments, kwargs: Keywords, new: Tensor) -> tuple[Arguments, Keywords]:
    if args:
        return (new, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": new}


@cache
def on_device(numbers: tuple[int, ...], device: torch.device) -> Int[Tensor, " n"]:
    """On the device, once and for good: to copy a list makes the device wait, and recorded passes read them again."""
    with torch.inference_mode(False):
        return torch.tensor(numbers, device=device)


class StopAfterRecording(Exception):
    """Everything that `record` waits for has been seen."""


@contextmanager
def record(
    residual: Residual,
    positions: list[int],
    out: Float[Tensor, "batch n_pos n_layers d_model"],
    *,
    stop: bool = False,
) -> Iterator[None]:
    """Copy `resid_pre` of every block at `positions` (negative, from the prompt's end) into `out`.

    `stop` ends the pass where the last block begins: what follows is computed for nothing.
    """
    last = residual.n_layers - 1
    columns = on_device(tuple(positions), out.device)

    def keep(index: int) -> Callable[[nn.Module, Arguments, Keywords], None]:
        def hook(_m: nn.Module, args: Arguments, kwargs: Keywords) -> None:
            x = block_input(args, kwargs)
            out[:, :, index] = x[:, columns.to(x.device)].to(out.device, out.dtype)
            if stop and index == last:
                raise StopAfterRecording

        return hook

    with ExitStack() as hooks:
        for index, block in enumerate(residual.blocks):
            hooks.callback(block.register_forward_pre_hook(keep(index), with_kwargs=True).remove)
        with suppress(StopAfterRecording):
            yield
