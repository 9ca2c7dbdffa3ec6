"""Which candidate directions are scored: the positions and layers that a rule allows, without those that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refusalctl.errors import BadInput, EmptySelection
from refusalctl.records.selection import Candidate
from refusalctl.stats.selection_rule import layer_limit

if TYPE_CHECKING:
    import torch


def candidates_of(
    tensors: dict[str, torch.Tensor], positions: list[int], share: float, layers: list[int] | None
) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates to score, and those that are no directions. Raises `EmptySelection` when none is left."""
    grid = grid_of(positions, tensors["candidates"].shape[1], share, layers)
    flat = [c for c in grid if _is_flat(tensors, positions.index(c.pos), c.layer)]
    if len(flat) == len(grid):
        raise EmptySelection("harmful and harmless prompts differ at no candidate position and layer")
    return [c for c in grid if c not in flat], flat


def grid_of(positions: list[int], n_layers: int, share: float, layers: list[int] | None) -> list[Candidate]:
    """Candidates below the layer limit. Raises `BadInput` for a layer that the model does not have."""
    for layer in layers or ():
        if layer >= n_layers:
            raise BadInput(f"layer {layer} is not there: the model has layers 0 to {n_layers - 1}")
    limit = layer_limit(share, n_layers)
    chosen = [layer for layer in (layers if layers is not None else range(n_layers)) if layer < limit]
    if not chosen:
        raise BadInput(f"no layer is left: the rule asks for layer < {limit}", hint="choose lower --layers")
    return [Candidate(pos, layer) for pos in positions for layer in chosen]


def _is_flat(tensors: dict[str, torch.Tensor], column: int, layer: int) -> bool:
    """Whether both classes have the same mean here, up to rounding: no direction, so nothing to score.

    At layer 0 an end-of-instruction token's stream is its embedding, the same after every prompt.
    """
    length = tensors["candidates"][column, layer].double().norm()
    return bool(length <= 1e-6 * tensors["mean_harmless"][column, layer].double().norm())
