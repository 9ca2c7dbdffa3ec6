"""Several directions at once: the difference-in-means, and what else sets harmful prompts apart."""

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.errors import BadInput


def contrastive_basis(
    harmful: Float[Tensor, "n_harmful d_model"], harmless: Float[Tensor, "n_harmless d_model"], rank: int
) -> Float[Tensor, "rank d_model"]:
    """Orthonormal rows, float32: the unit difference-in-means first, then contrastive components.

    The further rows are the leading eigenvectors of Cov(harmful) - Cov(harmless) in the complement of the first
    (contrastive PCA with alpha = 1; Abid et al. 2018, Nature Communications 9:2134): where harmful prompts
    vary among themselves and harmless ones do not. Plain principal components would mostly be topics.
    Raises `BadInput` when there are too few prompts, or no direction left that harmful prompts vary more along.
    """
    fewest = min(len(harmful), len(harmless))
    if rank < 1 or fewest <= rank:
        raise BadInput(
            f"a basis of {rank} directions needs more than {rank} prompts of each class, found {fewest}",
            hint="use more train prompts (--n-train), or a lower --rank",
        )
    x, y = harmful.to(torch.float64), harmless.to(torch.float64)
    difference = x.mean(0) - y.mean(0)
    length = difference.norm()
    if not bool(length > 0):
        raise BadInput("harmful and harmless prompts have the same mean: there is no direction to begin with")
    first = difference / length
    values, vectors = _contrast(_spread(x, first), _spread(y, first))
    found = int((values > 1e-9 * values.abs().max()).sum())
    if found < rank - 1:
        raise BadInput(
            f"harmful prompts vary more than harmless ones along {found} further directions, {rank - 1} were asked for",
            hint="use a lower --rank",
        )
    return torch.cat([first[None], vectors[: rank - 1]]).to(torch.float32)


def _spread(x: Float[Tensor, "n d_model"], r_hat: Float[Tensor, " d_model"]) -> Float[Tensor, "n d_model"]:
    """Deviations from the mean without their part along a unit vector; their product with itself is the covariance."""
    centred = x - x.mean(0)
    rest: Tensor = centred - (centred @ r_hat)[:, None] * r_hat
    return torch.div(rest, (len(x) - 1) ** 0.5)


def _contrast(
    x: Float[Tensor, "n d_model"], y: Float[Tensor, "m d_model"]
) -> tuple[Float[Tensor, " r"], Float[Tensor, "r d_model"]]:
    """Eigenvalues of x'x - y'y, largest first, and their vectors as rows.

    Solved in the span of the rows, which is small beside d_model.
    """
    span = torch.linalg.svd(torch.cat([x, y]), full_matrices=False)
    keep = span.Vh[1e-9 * span.S[0] < span.S]
    inner_x, inner_y = x @ keep.T, y @ keep.T
    values, vectors = torch.linalg.eigh(inner_x.T @ inner_x - inner_y.T @ inner_y)
    return values.flip(-1), vectors.flip(-1).T @ keep
