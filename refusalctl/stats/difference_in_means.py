"""Directions from activations: difference-in-means."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.errors import BadInput


class RunningMean:
    """Mean over prompts accumulated in float64, whatever the inputs' dtype."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count = 0

    def add(self, rows: Float[Tensor, "batch n_pos n_layers d_model"]) -> None:
        part = rows.to(torch.float64).sum(0)
        self.total = part if self.total is None else self.total + part
        self.count += rows.shape[0]

    def mean(self) -> Float[Tensor, "n_pos n_layers d_model"]:
        """Raises `BadInput` for a mean over nothing."""
        if self.total is None or self.count == 0:
            raise BadInput("the mean over no prompts does not exist")
        return self.total / self.count


def mean_of(
    batches: Iterable[Float[Tensor, "batch n_pos n_layers d_model"]],
) -> Float[Tensor, "n_pos n_layers d_model"]:
    """Mean over all prompts of all batches, float64. Raises `BadInput` for a mean over nothing."""
    running = RunningMean()
    for rows in batches:
        running.add(rows)
    return running.mean()


def difference_in_means(
    harmful: Float[Tensor, "n_pos n_layers d_model"], harmless: Float[Tensor, "n_pos n_layers d_model"]
) -> Float[Tensor, "n_pos n_layers d_model"]:
    """Mean harmful minus mean harmless `resid_pre` per (position, layer), float32, unnormalised.

    Points from harmless to harmful (Arditi et al. 2024, arXiv 2406.11717, section 2.3, equations 1-2).
    Raises `BadInput` when a value is not finite.
    """
    difference = harmful - harmless
    if not torch.isfinite(difference).all():
        raise BadInput("a candidate direction holds NaN or infinite values")
    return difference.to(torch.float32)
