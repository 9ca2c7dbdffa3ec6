"""Where a model writes its residual stream, found by measurement instead of by class name.

A decoder block computes `resid_post = scale * resid_pre + write_1 (+ write_2 ...)`. Which submodules produce the
writes differs: attention and MLP in Llama and Qwen, the RMSNorms behind them in Gemma-2 and OLMo-2, a projection
inside the MLP in BLOOM, three modules in Gemma-4. Hooks on the wrong one ablate something else and nobody notices,
so the writes are those modules of the block whose outputs, in one probe forward, add up to what the block adds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalctl.errors import ModelError
from refusalctl.model.finite import not_finite
from refusalctl.model.transformers_types import Arguments, Keywords, LanguageModel, TextConfig

_PROBE_TOKENS = 12
_MOST_WRITES = 3
_RESOLUTION = 1e-12
_INPUT, _OUTPUT = "<input>", "<output>"
_HINT = "this architecture is not supported; please open an issue with its name"


@dataclass(frozen=True)
class Residual:
    """Decoder blocks in order and, for each, the modules whose outputs are added to the stream.

    `scales` holds what each block multiplies its input by, `weights` what it multiplies each write by: 1 in nearly all
    architectures. `root` is the module whose forward runs them all.
    """

    blocks: list[nn.Module]
    writes: list[tuple[nn.Module, ...]]
    write_names: tuple[tuple[str, ...], ...]
    d_model: int
    scales: tuple[float, ...] = ()
    root: nn.Module = field(default_factory=nn.Identity)
    weights: tuple[tuple[float, ...], ...] = ()

    @property
    def n_layers(self) -> int:
        return len(self.blocks)


def hidden_of(value: object) -> Tensor:
    """The hidden states among a module's inputs or outputs."""
    found = value[0] if isinstance(value, tuple | list) else value
    if not isinstance(found, Tensor):
        raise ModelError(f"a decoder module returns {type(found).__name__}, expected a tensor of hidden states")
    return found


def block_input(args: Arguments, kwargs: Keywords) -> Tensor:
    return hidden_of(args[0]) if args else hidden_of(kwargs["hidden_states"])


def text_config(model: LanguageModel) -> TextConfig:
    return model.config.get_text_config()


def find_blocks(model: LanguageModel, n_layers: int) -> list[nn.Module]:
    """The decoder's blocks: the one `ModuleList` with `n_layers` members. Raises `ModelError` otherwise.

    Where a vision or audio tower has as many, the list inside the text decoder is meant.
    """
    outer = _outermost_lists(model, n_layers)
    if len(outer) > 1 and hasattr(model, "get_decoder"):
        outer = _outermost_lists(model.get_decoder(), n_layers)
    if len(outer) != 1:
        raise ModelError(
            f"{type(model).__name__}: expected one list of {n_layers} decoder blocks, found {len(outer)}", hint=_HINT
        )
    return list(outer[0])


def _outermost_lists(model: nn.Module, length: int) -> list[nn.ModuleList]:
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == length]
    return [m for m in lists if not any(m is not o and m in set(o.modules()) for o in lists)]


@torch.inference_mode()
def find_residual(model: LanguageModel) -> Residual:
    """Locate blocks and writes by one short forward pass on arbitrary tokens.

    Raises `ModelError`, naming the architecture, where the blocks' modules do not explain what the stream does.
    """
    config, name = text_config(model), type(model).__name__
    blocks = find_blocks(model, config.num_hidden_layers)
    seen: list[dict[str, Tensor]] = [{} for _ in blocks]
    with _probe(blocks, seen):
        ids = torch.arange(1, _PROBE_TOKENS + 1, device=model.get_input_embeddings().weight.device)[None]
        model(input_ids=ids, use_cache=False)
    _check_finite(model, seen)
    _check_chain(name, seen)
    fits: dict[int, _Fit] = {}
    for alike in _alike(seen):
        found = _fit_blocks(name, [seen[i] for i in alike], [blocks[i] for i in alike])
        fits |= dict(zip(alike, found, strict=True))
    names = tuple(fits[i].names for i in range(len(blocks)))
    writes = [tuple(block.get_submodule(n) for n in chosen) for block, chosen in zip(blocks, names, strict=True)]
    scales = tuple(fits[i].scale for i in range(len(blocks)))
    weights = tuple(fits[i].weights for i in range(len(blocks)))
    return Residual(blocks, writes, names, config.hidden_size, scales, model, weights)


@contextmanager
def _probe(blocks: list[nn.Module], seen: list[dict[str, Tensor]]) -> Iterator[None]:
    """Keep the output of every module inside every block that is as large as the stream."""
    handles = []

    def keep(index: int, name: str) -> Callable[[nn.Module, Arguments, object], None]:
        def hook(_m: nn.Module, _a: Arguments, output: object) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, Tensor) and first.numel() == seen[index][_INPUT].numel():
                # a copy: Falcon goes on to add the attention's output into the MLP's, in place
                seen[index][name] = first.detach().reshape(seen[index][_INPUT].shape).clone()

        return hook

    def keep_input(index: int) -> Callable[[nn.Module, Arguments, Keywords], None]:
        def hook(_m: nn.Module, args: Arguments, kwargs: Keywords) -> None:
            seen[index][_INPUT] = block_input(args, kwargs).detach().clone()

        return hook

    try:
        for index, block in enumerate(blocks):
            handles.append(block.register_forward_pre_hook(keep_input(index), with_kwargs=True))
            for name, inner in block.named_modules():
                handles.append(inner.register_forward_hook(keep(index, name or _OUTPUT)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_finite(model: nn.Module, seen: list[dict[str, Tensor]]) -> None:
    """NaN is unlike everything, itself too: what is not finite would look like another architecture."""
    for index, found in enumerate(seen):
        if not all(bool(torch.isfinite(found[at]).all()) for at in (_INPUT, _OUTPUT) if at in found):
            entered = _INPUT in found and not bool(torch.isfinite(found[_INPUT]).all())
            raise not_finite(model, "a first pass", "residual stream", index if entered else index + 1)


def _check_chain(architecture: str, seen: list[dict[str, Tensor]]) -> None:
    """What leaves a block must be what enters the next: a write between them would be missed."""
    for index, found in enumerate(seen):
        if _INPUT not in found or _OUTPUT not in found:
            raise ModelError(f"{architecture}: block {index} did not run in the probe forward", hint=_HINT)
        if index and not torch.equal(seen[index - 1][_OUTPUT].cpu(), found[_INPUT].cpu()):
            raise ModelError(f"{architecture}: the stream changes between blocks {index - 1} and {index}", hint=_HINT)


def _alike(seen: list[dict[str, Tensor]]) -> list[list[int]]:
    """Indices of blocks with modules of the same names: hybrids mix attention with convolutions or recurrences."""
    groups: dict[frozenset[str], list[int]] = {}
    for index, found in enumerate(seen):
        groups.setdefault(frozenset(found), []).append(index)
    return list(groups.values())


class _Fit(NamedTuple):
    """Writes of one block, what it multiplies its input and them by, and what this leaves unexplained.

    `excess` is in units of what rounding allows; infinite where the input itself does not go on.
    """

    names: tuple[str, ...]
    scale: float
    excess: float
    weights: tuple[float, ...] = ()


def _fit_blocks(architecture: str, seen: list[dict[str, Tensor]], blocks: list[nn.Module]) -> list[_Fit]:
    """The smallest set of modules, the same in every block of a kind, that explains what each adds.

    Children come first; modules inside them are tried where a child adds the stream to its own output.
    """
    inside = [n for n in seen[0] if n not in (_INPUT, _OUTPUT)]
    # of two with equal outputs the one with weights: Phi runs one dropout module twice
    inside.sort(key=lambda n: (n.count("."), not any(True for _ in blocks[0].get_submodule(n).parameters())))
    sums = [_Sum(found) for found in seen]
    least = float("inf")
    for candidates in ([n for n in inside if "." not in n], inside):
        sets = list(_fits(sums, candidates))
        least = min([least, *map(_worst, sets)])
        # a write left out by mistake leaves far more than the rounding that the best fit leaves
        good = [s for s in sets if _worst(s) <= min(1.0, 1.5 * least + 0.05)]
        if good:
            return min(good, key=lambda s: len(s[0].names))  # the first of the smallest
    best = f" (best fit misses by {least:.1f} times what rounding allows)" if least < float("inf") else ""
    raise ModelError(f"{architecture}: the writes to the residual stream were not found{best}", hint=_HINT)


def _worst(fits: list[_Fit]) -> float:
    return max(fit.excess for fit in fits)


def _fits(sums: list["_Sum"], candidates: list[str]) -> Iterator[list[_Fit]]:
    """Every set of up to three modules, fitted in all blocks unless the first already rules it out."""
    for size in range(1, _MOST_WRITES + 1):
        for names in combinations(candidates, size):
            first = sums[0].fit(names)
            yield [first] if first.excess > 1.0 else [first, *(one.fit(names) for one in sums[1:])]


class _Sum:
    """One block's output as a weighted sum of its input and modules' outputs, by least squares.

    Weights, because streams and writes may be scaled (Granite's residual multiplier, Gemma-4's layer scalar). Each
    token counts relative to its stream's length: the first tokens' is often hundreds of times longer, and its
    rounding would hide the rest.
    """

    def __init__(self, seen: dict[str, Tensor]) -> None:
        self.seen = seen
        before, after = (seen[k].double().cpu()[0] for k in (_INPUT, _OUTPUT))
        self.length = torch.maximum(before.norm(dim=-1, keepdim=True), after.norm(dim=-1, keepdim=True))
        self.before, self.after = ((t / self.length).flatten() for t in (before, after))
        # float64 models are held to what the least squares themselves can resolve
        self.eps = max(_RESOLUTION, *(torch.finfo(seen[k].dtype).eps for k in (_INPUT, _OUTPUT)))
        self.parts: dict[str, Tensor] = {}

    def part(self, name: str) -> Tensor:
        if name not in self.parts:
            self.parts[name] = (self.seen[name].double().cpu()[0] / self.length).flatten()
        return self.parts[name]

    def fit(self, names: tuple[str, ...]) -> _Fit:
        columns = torch.stack([self.before, *map(self.part, names)], dim=1)
        weights = torch.linalg.lstsq(columns, self.after[:, None]).solution[:, 0]
        scale = float(weights[0])
        if abs(scale) < 1e-3:  # the module holds the whole stream, as in post-norm blocks: not a write
            return _Fit(names, scale, float("inf"))
        rounding = self.eps * (len(self.length) ** 0.5 + float((columns * weights)[:, 1:].norm()))
        excess = float((columns @ weights - self.after).norm()) / rounding
        # a small write leaves its weight open: 1 is taken wherever it explains the block within rounding
        plain = columns @ torch.cat([weights[:1], torch.ones_like(weights[1:])])
        as_is = float((plain - self.after).norm()) / rounding <= 1.0
        return _Fit(names, self._tidy(scale), excess, tuple(1.0 if as_is else float(each) for each in weights[1:]))

    def _tidy(self, scale: float) -> float:
        return 1.0 if abs(scale - 1.0) < 8 * self.eps else scale


def unit(vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """r_hat, normalised in float64; float32 unless `vector` is float64.

    Raises `ModelError` for a vector without direction.
    """
    wide = vector.to(torch.float64)
    length = wide.norm()
    if not torch.isfinite(length) or float(length) == 0.0:
        raise ModelError("the direction is zero or not finite: nothing can be ablated or added")
    return (wide / length).to(vector.dtype if vector.dtype == torch.float64 else torch.float32)
