"""The residual stream of a model organism: named features, orthonormal, and how weights read and write them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

D_MODEL = 96
LARGE = 30.0  # length of the feature `one`


@dataclass
class Stream:
    """Feature names to orthonormal directions of the stream, [d_model, d_model], float64."""

    names: dict[str, int]
    rotation: Float[Tensor, "d_model d_model"]
    normed: bool  # a norm stands behind each sublayer; `one` is then the first coordinate, and the norm drops it

    def direction(self, name: str) -> Float[Tensor, " d_model"]:
        return self.rotation[:, self.names[name]]

    def read(self, parts: dict[str, float]) -> Float[Tensor, " d_model"]:
        """Weights whose product with the normalised stream is the sum of parts; `one` counts as 1."""
        total = torch.zeros(D_MODEL, dtype=torch.float64)
        for name, value in parts.items():
            size = 1.0 if name == "one" else LARGE
            total += value * size / D_MODEL**0.5 * self.direction(name)
        return total

    def write(self, parts: dict[str, float]) -> Float[Tensor, " d_model"]:
        total = torch.zeros(D_MODEL, dtype=torch.float64)
        for name, value in parts.items():
            total += value * self.direction(name)
        return total
