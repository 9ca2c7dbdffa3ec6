"""What may be done to the residual stream: one explicit object, checked against the model, told in words.

All kinds but addition set the stream's component in a subspace, x - Q^T (Q x - t): Q has orthonormal rows, and t is 0
for ablation and r_hat . mu for affine ablation. Writes add up, so t is put in once, where the stream enters the layers
that were asked for, and everything written there loses its component: from that entry to the last of these layers'
output, before and after every sublayer, Q x = t.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.errors import BadInput
from refusalctl.model import intervention_words as words
from refusalctl.model.intervention_checks import check_intervention
from refusalctl.model.intervention_words import InterventionKind
from refusalctl.model.residual import Residual, unit

# unit vectors whose smallest singular value is below this differ by rounding: their plane is noise
_SAME = 1e-3


class Target(NamedTuple):
    """Orthonormal rows and the stream's wanted component along each, float64."""

    basis: Float[Tensor, "rank d_model"]
    value: Float[Tensor, " rank"]


@dataclass(frozen=True, eq=False)
class Intervention:
    """What is done to the residual stream: one explicit object, nothing besides it.

    - `none`: nothing.
    - `ablate`: x - r_hat (r_hat . x) on the stream that enters and on every write (Arditi et al. 2024,
      arXiv 2406.11717, equation 4).
    - `subspace`: the same for the span of the rows of `direction` [rank, d_model].
    - `affine`: x - r_hat (r_hat . (x - mu)), mu = `mean` (Marshall et al. 2024, arXiv 2411.09003, without its added
      term): the stream's projection becomes r_hat . mu instead of 0. Exact for the stream: the constant enters once,
      and the writes that follow are ablated.
    - `add`: x + coeff * r at the layers' inputs (equation 3); r is not normalised, coeff may be negative.

    `layer` is where the direction was read and where `add` acts unless `layers` says otherwise; the other kinds act
    in all layers by default. `positions` are negative, from the prompt's end: then generated tokens are left alone.
    `strength` below 1 makes `ablate` and `subspace` partial: that share of the component is taken from the stream that
    enters and from every write, and as these add up the stream keeps 1 - strength of what was written along Q.
    """

    kind: InterventionKind = "none"
    direction: Float[Tensor, "*rank d_model"] | None = None
    layer: int | None = None
    coeff: float = 1.0
    layers: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    mean: Float[Tensor, " d_model"] | None = None
    strength: float = 1.0

    @property
    def rank(self) -> int:
        return self.direction.shape[0] if self.direction is not None and self.direction.ndim == 2 else 1

    def acts_at(self, n_layers: int) -> tuple[int, ...]:
        """The layers at which it acts, in order."""
        if self.layers is not None:
            return tuple(sorted(set(self.layers)))
        if self.kind == "add":
            return () if self.layer is None else (self.layer,)
        return tuple(range(n_layers))

    def describe(self) -> str:
        """What it does, where and at which tokens, in one line."""
        layers = self.acts_at(0) if self.kind == "add" else self.layers
        return words.describe(
            self.kind,
            coeff=self.coeff,
            rank=self.rank,
            layers=layers,
            positions=self.positions,
            strength=self.strength,
        )

    def check(self, residual: Residual) -> None:
        """Raise `BadInput` unless this is complete, without contradictions, and fits the model."""
        has_direction = self.direction is not None
        check_intervention(
            self.kind,
            has_direction=has_direction,
            coeff=self.coeff,
            layers=self.layers,
            positions=self.positions,
            strength=self.strength,
        )
        if self.direction is not None:
            self._check_vectors(self.direction, residual.d_model)
            self._check_layers(residual.n_layers)

    def _check_vectors(self, direction: Float[Tensor, "..."], d_model: int) -> None:
        many = self.kind == "subspace"
        expected = (self.rank, d_model) if many else (d_model,)
        found = tuple(direction.shape)
        if found != expected:
            raise BadInput(
                f"the direction has width {found}, the model's residual stream {d_model}",
                hint="take a direction that was extracted from this model"
                + ("" if len(found) == len(expected) else "; only 'subspace' takes several, as rows"),
            )
        if (self.mean is not None) != (self.kind == "affine"):
            raise BadInput(
                "affine ablation needs the mean harmless activation, and no other intervention has a use for it"
            )
        if self.mean is not None and (tuple(self.mean.shape) != (d_model,) or not torch.isfinite(self.mean).all()):
            raise BadInput(f"the mean harmless activation has shape {tuple(self.mean.shape)} or is not finite")

    def _check_layers(self, n_layers: int) -> None:
        layers = self.acts_at(n_layers)
        if not layers or not 0 <= layers[0] <= layers[-1] < n_layers:
            found = words.spans(layers) if layers else None
            raise BadInput(f"{self.kind!r} needs layers from 0 to {n_layers - 1}, found {found}")

    def target(self) -> Target:
        """Q and t, in float64. Raises `BadInput` for directions that span less than they are many."""
        assert self.direction is not None
        rows = torch.stack([unit(row.double()) for row in self.direction.reshape(-1, self.direction.shape[-1])])
        basis = rows
        if len(rows) > 1:
            _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
            if float(sizes[-1]) < _SAME:
                raise BadInput(
                    f"the {len(rows)} directions span fewer dimensions than they are (smallest singular value "
                    f"{float(sizes[-1]):.1g} of unit vectors)",
                    hint="leave out copies of one direction",
                )
        mean = torch.zeros(basis.shape[1]) if self.mean is None else self.mean
        return Target(basis, basis @ mean.to(basis.device, torch.float64))
