"""How alike directions of different languages are, against their own noise and against chance.

Every quantity here is a contrast of one matrix of activations: full data, random halves and shuffled labels differ
only in the signs that prompts get. Signs go by prompt id, so that a prompt and its translations share a half and a
shuffled label: translations are the same prompt twice, not two independent ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int8
from numpy import ndarray

from refusalctl.errors import BadInput
from refusalctl.stats.permutation import p_at_least

TINY = 1e-6  # a difference this small beside the activations themselves is rounding, not a direction


class LabelledActivations(NamedTuple):
    """Activations of one language at one position and layer; `signs` +1 harmful, -1 harmless, in the order of `ids`."""

    rows: Float[ndarray, "n d_model"]
    ids: tuple[str, ...]
    signs: Int8[ndarray, " n"]


class Draws(NamedTuple):
    """Random signs by prompt id: +1 and -1 name the halves, or the shuffled classes."""

    ids: dict[str, int]
    signs: Int8[ndarray, "draws n_ids"]

    def of(self, ids: Sequence[str]) -> Int8[ndarray, "draws n"]:
        return self.signs[:, [self.ids[i] for i in ids]]


def halves(classes: Sequence[Sequence[str]], n: int, rng: np.random.Generator) -> Draws:
    """`n` random splits into halves, balanced within each class of prompt ids."""
    columns = [(np.argsort(rng.random((n, len(ids))), axis=1) % 2 * 2 - 1).astype(np.int8) for ids in classes]
    everyone = [i for ids in classes for i in ids]
    return Draws({i: k for k, i in enumerate(everyone)}, np.concatenate(columns, axis=1))


def shuffles(classes: Sequence[Sequence[str]], n: int, rng: np.random.Generator) -> Draws:
    """`n` random assignments of the labels harmful (first class) and harmless (second) to all ids together."""
    harmful, harmless = classes
    labels = np.repeat(np.array([1, -1], np.int8), [len(harmful), len(harmless)])
    return Draws({i: k for k, i in enumerate((*harmful, *harmless))}, rng.permuted(np.tile(labels, (n, 1)), axis=1))


def contrasts(rows: Float[ndarray, "n d_model"], signs: Int8[ndarray, "draws n"]) -> Float[ndarray, "draws d_model"]:
    """Mean of the rows signed + minus mean of those signed -, per draw, float64; 0 leaves a row out.

    Raises `BadInput` where a draw leaves a class empty.
    """
    above, below = (signs > 0).astype(np.float64), (signs < 0).astype(np.float64)
    counts = above.sum(1, keepdims=True), below.sum(1, keepdims=True)
    if not (counts[0].all() and counts[1].all()):
        raise BadInput("a half or a shuffle holds no prompt of one class", hint="use more prompts per class")
    return np.asarray((above / counts[0] - below / counts[1]) @ rows.astype(np.float64))


def direction(sample: LabelledActivations) -> Float[ndarray, " d_model"] | None:
    """Difference-in-means, unnormalised; None where both classes have the same mean up to rounding."""
    found = contrasts(sample.rows, sample.signs[None])
    return found[0] if _all_differ(found, sample) else None


def _all_differ(found: Float[ndarray, "draws d_model"], sample: LabelledActivations) -> bool:
    """Whether every contrast is more than rounding beside the activations themselves."""
    scale = float(np.linalg.norm(sample.rows.astype(np.float64), axis=1).mean())
    return bool((np.linalg.norm(found, axis=1) > TINY * scale).all())


def cosines(a: Float[ndarray, "draws d_model"], b: Float[ndarray, "draws d_model"]) -> Float[ndarray, " draws"]:
    """Cosine of each draw's two vectors. Raises `BadInput` for a vector without length."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not lengths.all():
        raise BadInput("a direction of length zero has no cosine")
    return np.asarray((a * b).sum(1) / lengths)


class HalfDirections(NamedTuple):
    """Directions from the two halves of each split."""

    first: Float[ndarray, "draws d_model"]
    second: Float[ndarray, "draws d_model"]


def halved(sample: LabelledActivations, splits: Draws) -> HalfDirections | None:
    """None where a half of some split has the same mean in both classes: there is no direction to agree on.

    At the first layer a stream is the token's embedding, and classes that end on the same few tokens do not differ.
    """
    side = splits.of(sample.ids)
    first, second = (
        contrasts(sample.rows, np.where(side == which, sample.signs, 0).astype(np.int8)) for which in (1, -1)
    )
    return HalfDirections(first, second) if _all_differ(np.concatenate([first, second]), sample) else None


class Reliability(NamedTuple):
    """`half`: mean cosine between directions from disjoint halves. `full`: what it becomes with all prompts.

    `full` is Spearman-Brown, 2 r / (1 + r) (Spearman 1910; Brown 1910): for a difference of means, whose noise shrinks
    with 1/n, it is the expected squared cosine with the direction of infinitely many prompts. None where r <= 0: then
    the halves share nothing and there is no direction to compare.
    """

    half: float
    full: float | None


def reliability(parts: HalfDirections) -> Reliability:
    half = float(cosines(*parts).mean())
    return Reliability(half, spearman_brown(half))


def spearman_brown(half: float) -> float | None:
    """Reliability of all prompts from that of half of them; None for half <= 0."""
    return 2 * half / (1 + half) if half > 0 else None


class Likeness(NamedTuple):
    """Cosine of two languages' directions beside its noise ceiling and its null.

    `ceiling`: the cosine that two noisy estimates of one and the same direction would have, sqrt(full_a * full_b).
    `apart`: mean cosine of a half of one language with the *other* half of the other, which share no prompt.
    `disattenuated`: `apart` over sqrt(half_a * half_b) (Spearman 1904). Halves of different prompts, because noise
    that translations have in common would raise the cosine of the full directions. Not clipped: above 1 is noise.
    `null_95`, `p`: the cosine under shuffled labels, the same shuffle in both languages, and the share of shuffles
    that reach the observed one, (b + 1) / (B + 1) (Phipson and Smyth 2010), one-sided.
    """

    cosine: float
    ceiling: float | None
    apart: float
    disattenuated: float | None
    null_95: float
    p: float


class DirectionEstimate(NamedTuple):
    """All that one language brings to comparisons at one position and layer."""

    full: Float[ndarray, " d_model"]
    halves: HalfDirections
    reliability: Reliability
    shuffled: Float[ndarray, "draws d_model"]


def estimate(sample: LabelledActivations, splits: Draws, null: Draws) -> DirectionEstimate | None:
    """None where the two classes have the same mean in all prompts, a half or a shuffle: there is no direction."""
    full, parts = direction(sample), halved(sample, splits)
    shuffled = contrasts(sample.rows, null.of(sample.ids))
    if full is None or parts is None or not _all_differ(shuffled, sample):
        return None
    return DirectionEstimate(full, parts, reliability(parts), shuffled)


def likeness(a: DirectionEstimate, b: DirectionEstimate) -> Likeness:
    observed = float(cosines(a.full[None], b.full[None])[0])
    apart = float((cosines(a.halves.first, b.halves.second) + cosines(a.halves.second, b.halves.first)).mean() / 2)
    null = cosines(a.shuffled, b.shuffled)
    full = (a.reliability.full, b.reliability.full)
    ceiling, true = None, None
    if full[0] is not None and full[1] is not None:
        ceiling = float(np.sqrt(full[0] * full[1]))
        true = apart / float(np.sqrt(a.reliability.half * b.reliability.half))
    return Likeness(observed, ceiling, apart, true, float(np.quantile(null, 0.95)), p_at_least(observed, null))


# --- subspaces ---------------------------------------------------------------------------------------


def difference_subspace(
    rows: Float[ndarray, "n d_model"], signs: Int8[ndarray, " n"], k: int
) -> Float[ndarray, "d_model k"]:
    """Orthonormal basis of the `k` strongest directions of harmful activations seen from the harmless mean.

    Right singular vectors of harmful rows minus the harmless mean, not centred again: the first is close to the
    difference-in-means, the others are how harmful prompts differ among themselves. Raises `BadInput` for k > n.
    """
    harmful, harmless = rows[signs > 0].astype(np.float64), rows[signs < 0].astype(np.float64)
    if k > min(harmful.shape):
        raise BadInput(f"{len(harmful)} harmful prompts span no {k} dimensions", hint="ask for a smaller subspace")
    _, _, right = np.linalg.svd(harmful - harmless.mean(0), full_matrices=False)
    return np.asarray(right[:k].T)


def subspace_angles(a: Float[ndarray, "d_model k"], b: Float[ndarray, "d_model k"]) -> Float[ndarray, " k"]:
    """Principal angles in degrees, smallest first (Björck and Golub 1973; scipy)."""
    from scipy.linalg import subspace_angles as angles

    return np.asarray(np.rad2deg(np.sort(angles(a, b))))
