"""Results that hold tensors: activations and directions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from refusalctl.errors import BadInput
from refusalctl.records.selection import SelectionScores, SplitHalf
from refusalctl.report.selection_words import score_rows
from refusalctl.results.base import Result, Table
from refusalctl.steps.activations import ActivationHeader, open_collected
from refusalctl.steps.selection.scores import read_choice
from refusalctl.store import formats

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class Activations(Result):
    """`resid_pre` of every prompt at every layer."""

    kind = "activations"

    @cached_property
    def resid_pre(self) -> NDArray[np.float32]:
        """[n_prompts, n_pos + 1, n_layers, d_model], float32, memory-mapped; the last position is the last instruction
        token."""
        return formats.map_activations(self.path / "activations.h5")

    @cached_property
    def header(self) -> ActivationHeader:
        """Positions, end tokens and prompts of the axes."""
        with open_collected(self.artifact) as (_data, header):
            return header

    @property
    def positions(self) -> list[int]:
        """End-of-instruction positions, in the order of the second axis."""
        return self.header.positions

    @property
    def prompt_ids(self) -> list[str]:
        return self.header.prompt_ids


class Vectors(Result):
    """Something that holds directions as safetensors."""

    @cached_property
    def _opened(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return formats.read_vectors(self.path / formats.VECTOR_FILES[self.kind], self.kind)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor by name, memory-mapped."""
        return self._opened[0]

    @property
    def lang(self) -> str:
        """Language of the prompts that the directions were extracted from."""
        return str(self.about["lang"])


class Directions(Vectors):
    """Difference-in-means candidates of one language."""

    kind = "directions"

    @property
    def candidates(self) -> torch.Tensor:
        """[n_pos, n_layers, d_model], float32; points from harmless to harmful, not normalised."""
        return self.tensors["candidates"]

    @property
    def positions(self) -> list[int]:
        return list(self._opened[1]["positions"])

    def at(self, pos: int, layer: int) -> torch.Tensor:
        """One candidate [d_model]. Raises `BadInput` for a position that was not collected."""
        if pos not in self.positions:
            raise BadInput(f"there is no candidate at position {pos}", hint=f"positions {self.positions}")
        return self.candidates[self.positions.index(pos), layer]


class Selection(Vectors):
    """The chosen direction of one language, with the scores of every candidate."""

    kind = "selection"

    @property
    def vector(self) -> torch.Tensor:
        """[d_model], float32; points from harmless to harmful, not normalised."""
        return self.tensors["direction"]

    @property
    def pos(self) -> int:
        return int(self._opened[1]["pos"])

    @property
    def layer(self) -> int:
        return int(self._opened[1]["layer"])

    @cached_property
    def table(self) -> SelectionScores:
        """`scores.json`: candidates, stability, reliability, both criteria's choices."""
        return read_choice(self.artifact)

    @cached_property
    def scores(self) -> Table:
        """Mean bypass, induce (log-odds) and KL (nats) of every candidate; empty where it was not scored."""
        return Table(score_rows(self.artifact))

    @property
    def reliability(self) -> SplitHalf | None:
        """Split-half cosine, reliability for all prompts, and the noise ceiling of its cosine to anything."""
        return self.table.reliability


class Subspace(Vectors):
    """Several directions of one language, orthonormal."""

    kind = "subspace"

    @property
    def basis(self) -> torch.Tensor:
        """[rank, d_model], float32, orthonormal rows."""
        return self.tensors["basis"]


class ControlDirections(Vectors):
    """Control directions of one source: single ones, and spans where several are ablated together."""

    kind = "control_directions"
