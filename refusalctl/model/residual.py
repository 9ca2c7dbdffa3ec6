"""Where a model writes its residual stream, found by measurement instead of by class name.

A decoder block computes `resid_post = resid_pre + write_1 (+ write_2)`. Which submodules produce the writes
differs: attention and MLP in Llama and Qwen, the RMSNorms behind them in Gemma-2 and Gemma-3. Hooks on the
wrong one ablate something else and nobody notices, so the writes are those children of the block whose
outputs, in one probe forward, add up to what the block adds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalctl.errors import ModelError

_PROBE_TOKENS = 12


@dataclass(frozen=True)
class Residual:
    """Decoder blocks in order and, for each, the modules whose outputs are added to the stream."""

    blocks: list[nn.Module]
    writes: list[tuple[nn.Module, ...]]
    write_names: tuple[str, ...]
    d_model: int

    @property
    def n_layers(self) -> int:
        return len(self.blocks)


def hidden_of(value: Any) -> Tensor:
    """The hidden states among a module's inputs or outputs."""
    found = value[0] if isinstance(value, tuple | list) else value
    if not isinstance(found, Tensor):
        raise ModelError(f"a decoder module returns {type(found).__name__}, expected a tensor of hidden states")
    return found


def block_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return hidden_of(args[0]) if args else hidden_of(kwargs["hidden_states"])


def text_config(model: Any) -> Any:
    return model.config.get_text_config()


def find_blocks(model: nn.Module, n_layers: int) -> list[nn.Module]:
    """The decoder's blocks: the one `ModuleList` with `n_layers` members. Raises `ModelError` otherwise."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    outer = [m for m in lists if not any(m is not o and m in set(o.modules()) for o in lists)]
    if len(outer) != 1:
        raise ModelError(
            f"{type(model).__name__}: expected one list of {n_layers} decoder blocks, found {len(outer)}",
            hint="this architecture is not supported; please open an issue with its name",
        )
    return list(outer[0])


@torch.inference_mode()
def find_residual(model: Any) -> Residual:
    """Locate blocks and writes by one short forward pass on arbitrary tokens."""
    config = text_config(model)
    blocks = find_blocks(model, config.num_hidden_layers)
    seen: dict[int, dict[str, Tensor]] = {i: {} for i in range(len(blocks))}
    with _probe(blocks, seen):
        ids = torch.arange(1, _PROBE_TOKENS + 1, device=model.get_input_embeddings().weight.device)[None]
        model(input_ids=ids, use_cache=False)
    write_names = _write_names(type(model).__name__, list(seen.values()))
    writes = [tuple(block.get_submodule(name) for name in write_names) for block in blocks]
    return Residual(blocks, writes, write_names, config.hidden_size)


@contextmanager
def _probe(blocks: list[nn.Module], seen: dict[int, dict[str, Tensor]]) -> Iterator[None]:
    handles = []

    def keep(index: int, name: str) -> Any:
        def hook(_m: nn.Module, _a: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple | list) else output
            if isinstance(first, Tensor):
                seen[index][name] = first.detach()

        return hook

    def keep_input(index: int) -> Any:
        def hook(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[index]["<input>"] = block_input(args, kwargs).detach()

        return hook

    try:
        for index, block in enumerate(blocks):
            handles.append(block.register_forward_pre_hook(keep_input(index), with_kwargs=True))
            handles.append(block.register_forward_hook(keep(index, "<output>")))
            for name, child in block.named_children():
                handles.append(child.register_forward_hook(keep(index, name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _write_names(architecture: str, seen: list[dict[str, Tensor]]) -> tuple[str, ...]:
    """Names of the two children (or the one) whose outputs add up to what each block adds, in every block."""
    for index, found in enumerate(seen):
        if "<input>" not in found or "<output>" not in found:
            raise ModelError(f"{architecture}: block {index} did not run in the probe forward")
    children = [n for n in seen[0] if not n.startswith("<") and seen[0][n].shape == seen[0]["<output>"].shape]
    choices = [*combinations(children, 2), *combinations(children, 1)]
    excess = {names: max(_unexplained(found, names) for found in seen) for names in choices}
    best = min(excess, key=lambda names: excess[names], default=())
    if not best or excess[best] > 1.0:
        raise ModelError(
            f"{architecture}: the writes to the residual stream were not found"
            + (f" (best fit misses by {excess[best]:.1f} times what rounding allows)" if best else ""),
            hint="this architecture is not supported; please open an issue with its name",
        )
    return best


def _unexplained(seen: dict[str, Tensor], names: tuple[str, ...]) -> float:
    """What the named outputs leave of a block's addition, in units of what rounding allows; infinite for no fit.

    Scaled writes (Granite's residual multiplier) are found by least squares. Each token counts relative to its
    stream's length: the first tokens' is often hundreds of times longer, and its rounding would hide the rest.
    """
    if not set(names) <= set(seen):
        return float("inf")
    after = seen["<output>"].double().cpu()[0]
    length = after.norm(dim=-1, keepdim=True)
    added = ((after - seen["<input>"].double().cpu()[0]) / length).flatten()
    parts = torch.stack([(seen[n].double().cpu()[0] / length).flatten() for n in names], dim=1)
    scale = torch.linalg.lstsq(parts, added[:, None]).solution
    if any(abs(float(s)) < 1e-3 for s in scale):
        return float("inf")
    rounding = 2 * torch.finfo(seen["<output>"].dtype).eps * len(length) ** 0.5
    return float((parts @ scale - added[:, None]).norm() / (1e-4 * added.norm() + rounding))


def unit(vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """r_hat, computed once in float32. Raises `ModelError` for a vector without direction."""
    wide = vector.to(torch.float32)
    length = wide.norm()
    if not torch.isfinite(length) or float(length) == 0.0:
        raise ModelError("the direction is zero or not finite: nothing can be ablated or added")
    return wide / length
