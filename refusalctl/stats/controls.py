"""Control directions: what any direction of this kind does, so that the one found can be told from them."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refusalctl.errors import BadInput
from refusalctl.records.cell import ControlFamily
from refusalctl.stats.permutation import permutation_p

LEAST = 19  # 1 / (19 + 1) = 0.05: enough for any number of cells (`max_t.step_down`)
DRAWS = 39  # more power than 19, and one draw may reach the real direction
TIE = 0.01  # log-odds; a smaller difference of two mean refusal scores is rounding, not an effect
VERDICT_FAMILIES: tuple[ControlFamily, ...] = ("shuffled", "covariance")


def p_value(real: float, null: Sequence[float]) -> float:
    """One-sided permutation p; a null value smaller than `real` (both in log-odds) by less than `TIE` reaches it.

    Raises `BadInput` without draws or for NaN.
    """
    values = torch.tensor([real, *null], dtype=torch.float64)
    if not null or not bool(torch.isfinite(values).all()):
        raise BadInput("a null distribution needs finite values, and at least one")
    return permutation_p(int((values[1:] > real - TIE).sum()), len(null))


def shuffles(n_harmful: int, n_harmless: int, n: int, generator: torch.Generator) -> Bool[Tensor, "n n_prompts"]:
    """Which prompts a shuffled labelling calls harmful: the class sizes stay, the labels are drawn anew."""
    total = n_harmful + n_harmless
    return torch.stack([torch.randperm(total, generator=generator) < n_harmful for _ in range(n)])


def shuffled_differences(
    rows: Float[Tensor, "n_prompts d_model"], labels: Bool[Tensor, "n n_prompts"], real: Float[Tensor, " d_model"]
) -> tuple[Float[Tensor, "n d_model"], Float[Tensor, " n"]]:
    """Differences-in-means under shuffled labels without their part along `real`, at `real`'s length, float32.

    A shuffle leaves the classes unbalanced by chance, so its difference holds a little of the true one; where the
    true difference is large beside the spread within classes, that little is most of it (|cosine| 0.94 in the model
    organisms) and the "null" is a copy of the direction. So that part is taken out here, and its size is returned:
    |cosine| of the plain shuffled difference to `real`. NaN rows where only rounding (1e-5 of `real`) is left.
    """
    x, mask = rows.to(torch.float64), labels.to(torch.float64)
    plain = mask @ x / mask.sum(1, keepdim=True) - (1 - mask) @ x / (1 - mask).sum(1, keepdim=True)
    target = real.to(torch.float64)
    r_hat = target / target.norm()
    along = plain @ r_hat
    rest = plain - along[:, None] * r_hat
    length = rest.norm(dim=1, keepdim=True)
    vectors = torch.where(length > 1e-5 * target.norm(), rest / length, torch.nan) * target.norm()
    return vectors.float(), (along.abs() / plain.norm(dim=1).clamp(min=1e-300)).float()


def covariance_matched(
    harmless: Float[Tensor, "n_prompts d_model"], length: float, n: int, generator: torch.Generator
) -> Float[Tensor, "n d_model"]:
    """Normal draws with the covariance of harmless activations, rescaled to `length`, float32.

    Isotropic draws are nearly orthogonal to everything that the model uses; these lie where its stream varies
    without harmfulness. Raises `BadInput` where harmless activations do not vary.
    """
    x = harmless.to(torch.float64)
    centred = x - x.mean(0)
    draws = torch.randn(n, len(x), generator=generator, dtype=torch.float64) @ centred
    norms = draws.norm(dim=1, keepdim=True)
    if not bool((norms > 1e-9 * x.norm(dim=1).mean()).all()):
        raise BadInput("harmless activations do not vary at the selected position and layer")
    scaled: Tensor = draws / norms * length
    return scaled.float()


def subspaces(
    harmless: Float[Tensor, "n_prompts d_model"], rank: int, n: int, generator: torch.Generator
) -> Float[Tensor, "n rank d_model"]:
    """Orthonormal bases of the spans of `rank` covariance-matched draws each, float32: what an ablation of `rank`
    directions at once is compared with. Raises `BadInput` where harmless prompts span fewer directions."""
    if len(harmless) <= rank:
        raise BadInput(f"{len(harmless)} harmless prompts span no subspace of {rank} directions beside their mean")
    draws = covariance_matched(harmless, 1.0, n * rank, generator).double().reshape(n, rank, -1)
    bases, triangle = torch.linalg.qr(draws.transpose(1, 2))
    if not bool((triangle.diagonal(dim1=1, dim2=2).abs() > 1e-6).all()):
        raise BadInput(f"harmless activations vary along fewer than {rank} directions at the selected place")
    found: Tensor = bases.transpose(1, 2)
    return found.float()


def isotropic(d_model: int, length: float, n: int, generator: torch.Generator) -> Float[Tensor, "n d_model"]:
    """Directions uniform on the sphere, at `length`, float32."""
    draws = torch.randn(n, d_model, generator=generator, dtype=torch.float64)
    scaled: Tensor = draws / draws.norm(dim=1, keepdim=True) * length
    return scaled.float()
