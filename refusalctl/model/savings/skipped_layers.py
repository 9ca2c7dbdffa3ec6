"""Passing over blocks whose work is known: the stream that enters a block, kept and put back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from refusalctl.model.residual import Residual, block_input
from refusalctl.model.transformers_types import Arguments, KeyValueCache, Keywords


@dataclass
class PlainPass:
    """Of one plain pass: the stream that entered every block [batch, seq, d_model], and the cache that was left."""

    entered: list[Tensor] = field(default_factory=list)
    returned: list[type] = field(default_factory=list)
    cache: KeyValueCache | None = None

    def can_be_put_back(self, n_layers: int) -> bool:
        """Whether every block ran once and passed on nothing but its stream."""
        return len(self.returned) == n_layers and _Other not in self.returned


class _Other:
    """What a block may return besides its stream, and then cannot be passed over."""


def _form(output: object) -> type:
    if isinstance(output, Tensor):
        return Tensor
    return tuple if isinstance(output, tuple) and len(output) == 1 else _Other


@contextmanager
def watching(residual: Residual, kept: PlainPass) -> Iterator[None]:
    """Keep what enters every block and the form of what leaves it."""

    def enters(_m: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        kept.entered.append(block_input(args, kwargs).clone())

    def leaves(_m: nn.Module, _args: object, output: object) -> None:
        kept.returned.append(_form(output))

    handles = [block.register_forward_pre_hook(enters, with_kwargs=True) for block in residual.blocks]
    handles += [block.register_forward_hook(leaves) for block in residual.blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def entering(residual: Residual, layer: int, kept: PlainPass) -> Iterator[None]:
    """Blocks below `layer` pass on what they get, and block `layer` gets the stream that was kept."""

    def enter(_m: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        stream = kept.entered[layer]
        return ((stream, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": stream})

    # before the addition's own hook, which adds to what this one puts in
    handle = residual.blocks[layer].register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
    passed = residual.blocks[:layer]
    before = [block.__dict__.get("forward") for block in passed]
    try:
        for block, form in zip(passed, kept.returned):
            block.forward = _pass_on if form is Tensor else _pass_on_tuple
        yield
    finally:
        handle.remove()
        for block, own in zip(passed, before):
            if own is None:
                del block.forward
            else:
                block.forward = own


def _pass_on(*args: Any, **kwargs: Any) -> Tensor:
    return block_input(args, kwargs)


def _pass_on_tuple(*args: Any, **kwargs: Any) -> tuple[Tensor]:
    return (block_input(args, kwargs),)
