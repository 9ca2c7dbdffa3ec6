"""Where plain ablation puts the stream of a language, beside that language's own means."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.errors import BadInput

LEAST_GAP = 0.1  # of the direction's length; below it the two means lie together and nothing is nearer to one of them


class Along(NamedTuple):
    """Coordinates along a unit direction, and where 0 lies between them; None: the means lie together."""

    harmless: float
    harmful: float
    place: float | None


def zero_point(
    direction: Float[Tensor, " d_model"], harmless: Float[Tensor, " d_model"], harmful: Float[Tensor, " d_model"]
) -> Along:
    """The harmless and the harmful mean along `direction`, and 0 on the way from the first (0) to the second (1).

    Plain ablation sets the coordinate to 0 in every language, wherever its own means lie (Marshall et al. 2024, arXiv
    2411.09003, on the affine alternative). From one half of the way on, 0 is nearer to the harmful mean: ablation does
    not put the stream on the harmless side. The direction is a difference-in-means, so its length is the gap of its own
    language; a gap below a tenth of that places nothing. Raises `BadInput` for a direction of no length, or NaN.
    """
    r, x, y = (each.to(torch.float64) for each in (direction, harmless, harmful))
    length = float(r.norm())
    if not length > 0 or not bool(torch.isfinite(torch.stack([x, y])).all()):
        raise BadInput("a direction without length, or means that are not finite, have no zero point")
    low, high = float(x @ r) / length, float(y @ r) / length
    place = -low / (high - low) if abs(high - low) >= LEAST_GAP * length else None
    return Along(low, high, place)
