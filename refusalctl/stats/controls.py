"""Control directions: what another direction of the same stream does, so that the one found can be told from them."""

import sys
from collections.abc import Callable, Sequence
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.errors import BadInput
from refusalctl.records.controls import MATCHED
from refusalctl.stats.max_t import TIE
from refusalctl.stats.permutation import permutation_p

DRAWS = 39  # more power than 19, and one draw may reach the real direction
NO_DAMAGE = 1e-3  # nats; a smaller KL is no damage: below it draws are not held to the real direction's
SAME = 1e-6  # unit vectors whose smallest singular value is below this are one direction
TRIES = 6  # of strengths of a draw that damages more
AIM = 0.95  # share of the limit that a try aims at
INSIDE = 0.05  # of the bracket: no try is nearer to its ends
FLATTEST, STEEPEST = 0.5, 8.0  # powers that are believed


class Matched(NamedTuple):
    """How strongly a draw is ablated, and the KL (nats) that it then makes."""

    strength: float
    kl: float


def p_value(real: float, null: Sequence[float]) -> float:
    """One-sided permutation p; a null value smaller than `real` (both in log-odds) by less than `TIE` reaches it.

    Raises `BadInput` without draws or for NaN.
    """
    values = torch.tensor([real, *null], dtype=torch.float64)
    if not null or not bool(torch.isfinite(values).all()):
        raise BadInput("a null distribution needs finite values, and at least one")
    return permutation_p(int((values[1:] > real - TIE).sum()), len(null))


def damage_limit(real_kl: float) -> float:
    """KL (nats) that a draw may reach beside a real direction's. Raises `BadInput` for what is no KL."""
    if not real_kl >= -1e-6 or real_kl == float("inf"):
        raise BadInput(f"the KL of the real direction is {real_kl:g}, expected a finite number of at least 0")
    return max(real_kl, NO_DAMAGE)


def matched(kl: Callable[[float], float], limit: float) -> Matched | None:
    """A strength whose measured KL is at most `limit` and, within `TRIES`, at least `MATCHED` of it; 1 if all of it is.

    `kl`: KL (nats) of partial ablation at a strength in (0, 1]. It grows with a power of the strength, the square where
    that is small: each try follows the power that the two before had. Only a strength that was measured is taken, so a
    KL that does not grow costs no promise. None where every strength that is tried damages more.
    """
    last, power = Matched(1.0, kl(1.0)), 2.0
    if last.kl <= limit:
        return last
    found, low, high = None, 0.0, 1.0
    for _ in range(TRIES):
        guess = last.strength * (AIM * limit / max(last.kl, sys.float_info.min)) ** (1 / power)
        margin = INSIDE * (high - low)
        strength = min(max(guess, low + margin), high - margin)
        here = Matched(strength, kl(strength))
        if MATCHED * limit <= here.kl <= limit:
            return here
        if here.kl <= limit:
            found, low = here, strength
        else:
            high = strength
        power, last = _power(last, here), here
    return found


def _power(a: Matched, b: Matched) -> float:
    """With which KL grows from one strength to another; the square where it does not."""
    if min(a.kl, b.kl) <= 0 or (a.kl - b.kl) * (a.strength - b.strength) <= 0:
        return 2.0
    return min(max(log(a.kl / b.kl) / log(a.strength / b.strength), FLATTEST), STEEPEST)


def deviations(
    harmful: Float[Tensor, "n_harmful d_model"],
    harmless: Float[Tensor, "n_harmless d_model"],
    basis: Float[Tensor, "rank d_model"],
) -> Float[Tensor, "n d_model"]:
    """Each class centred on its own mean, float64; harmful prompts without their part in the span of `basis`.

    Harmful prompts are more or less harmful, so they vary along the very direction that is tested: draws from that part
    would be copies of it (|cosine| up to 0.98 in the model organisms), not other directions. What harmless prompts vary
    along stays whole, so nothing makes a draw orthogonal to the direction.
    """
    up, down = (x.to(torch.float64) - x.to(torch.float64).mean(0) for x in (harmful, harmless))
    _, sizes, rows = torch.linalg.svd(
        torch.nn.functional.normalize(basis.to(torch.float64), dim=1), full_matrices=False
    )
    rows = rows[sizes > SAME]
    return torch.cat([up - up @ rows.T @ rows, down])


def coefficients(n: int, n_prompts: int, generator: torch.Generator) -> Float[Tensor, "n n_prompts"]:
    """Standard normal weights of train prompts, float64: one draw is the same weights at every place, as a difference
    in means is, so that its candidates are as alike from layer to layer as the real ones."""
    return torch.randn(n, n_prompts, generator=generator, dtype=torch.float64)


def within_class(
    centred: Float[Tensor, "n_prompts d_model"], length: float, weights: Float[Tensor, "n n_prompts"]
) -> Float[Tensor, "n d_model"]:
    """Normal draws with the covariance of `deviations`, rescaled to `length`, float32.

    A difference in means of prompts that differ in nothing but chance is such a draw. Raises `BadInput` where
    activations do not vary.
    """
    draws = weights @ centred
    norms = draws.norm(dim=1, keepdim=True)
    if not bool((norms > 1e-9 * length).all()) or not length > 0:
        raise BadInput("activations do not vary within their class at the selected position and layer")
    scaled: Tensor = draws / norms * length
    return scaled.float()


def spans(draws: Float[Tensor, "n_draws d_model"], rank: int) -> Float[Tensor, "n rank d_model"]:
    """Orthonormal bases of the spans of `rank` draws each, float32: what an ablation of `rank` directions at once is
    compared with. Raises `BadInput` where activations vary along fewer directions."""
    grouped = torch.nn.functional.normalize(draws.double(), dim=1).reshape(-1, rank, draws.shape[1])
    bases, triangle = torch.linalg.qr(grouped.transpose(1, 2))
    if not bool((triangle.diagonal(dim1=1, dim2=2).abs() > 1e-6).all()):
        raise BadInput(f"activations vary along fewer than {rank} directions at the selected place")
    found: Tensor = bases.transpose(1, 2)
    return found.float()
