"""How well harmful and harmless activations come apart in full space, and where they lie on a direction."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int8
from numpy import ndarray

from refusalctl.errors import BadInput
from refusalctl.stats.held_out import auroc_within
from refusalctl.stats.permutation import p_at_least
from refusalctl.stats.similarity import LabelledActivations, contrasts

FOLDS = 5


class PermutationTest(NamedTuple):
    """A statistic, the mean of its null under shuffled labels, and p = (b + 1) / (B + 1), one-sided."""

    value: float
    null_mean: float
    p: float


def coordinates(rows: Float[ndarray, "n d_model"]) -> Float[ndarray, "n n_dim"]:
    """The same points in at most n dimensions: centred, rotated, scaled by one number.

    Distances and angles stay as they are (QR), so whatever follows works in full space, at the cost of n dimensions.
    """
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    spread = float(np.sqrt((centred**2).sum(1).mean()))
    if spread == 0:
        raise BadInput("all activations are the same: there is nothing to separate")
    triangle: Any = np.linalg.qr(centred.T, mode="r")  # an array in this mode, typed as all modes' result
    return np.asarray(triangle.T / spread)


def auroc(
    points: Float[ndarray, "n n_dim"], signs: Int8[ndarray, " n"], permutations: int, seed: int
) -> PermutationTest:
    """Cross-validated AUROC of L2 logistic regression, harmful against harmless, with a label permutation test.

    Five stratified folds (scikit-learn's `permutation_test_score`; Ojala and Garriga 2010). Raises `BadInput` for a
    class with fewer prompts than folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, permutation_test_score

    smallest = int(min((signs > 0).sum(), (signs < 0).sum()))
    if smallest < FOLDS:
        raise BadInput(f"{smallest} prompts of a class cannot fill {FOLDS} folds", hint="use more prompts per class")
    value, null, p = permutation_test_score(
        LogisticRegression(max_iter=2000),
        points,
        (signs > 0).astype(int),
        scoring="roc_auc",
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed),
        n_permutations=permutations,
        random_state=seed,
    )
    return PermutationTest(float(value), float(null.mean()), float(p))


def silhouette(
    points: Float[ndarray, "n n_dim"], signs: Int8[ndarray, " n"], permutations: int, rng: np.random.Generator
) -> PermutationTest:
    """Mean silhouette of the two classes, Euclidean, in full space (Rousseeuw 1987), with a label permutation test."""
    from sklearn.metrics import pairwise_distances, silhouette_score

    distances = pairwise_distances(points)
    np.fill_diagonal(distances, 0.0)
    value = float(silhouette_score(distances, signs, metric="precomputed"))
    shuffled = (rng.permutation(signs) for _ in range(permutations))
    null = np.array([silhouette_score(distances, s, metric="precomputed") for s in shuffled])
    return PermutationTest(value, float(null.mean()), p_at_least(value, null))


class PrincipalMap(NamedTuple):
    """Two principal components: coordinates in units of the cloud's spread, and the variance that each explains."""

    points: Float[ndarray, "n 2"]
    explained: Float[ndarray, " 2"]


def pca_map(points: Float[ndarray, "n n_dim"], signs: Int8[ndarray, " n"]) -> PrincipalMap:
    """First two principal components (scikit-learn), turned so that harmful prompts lie to the right and above."""
    from sklearn.decomposition import PCA

    fitted = PCA(2, svd_solver="full")
    flat = fitted.fit_transform(points)
    side = np.sign(flat[signs > 0].mean(0) - flat[signs < 0].mean(0))
    return PrincipalMap(flat * np.where(side == 0, 1.0, side), fitted.explained_variance_ratio_)


# --- projection on another language's direction ------------------------------------------------------


class LanguageProjection(NamedTuple):
    """Where one language's baseline activations lie on the reference direction, held out.

    In units of the reference language's own gap: its harmless prompts are at 0 and its harmful ones at 1 on average.
    `auroc` says how well the position on that one axis tells the classes apart in this language, within folds.
    """

    harmful: Float[ndarray, " n_harmful"]
    harmless: Float[ndarray, " n_harmless"]
    auroc: float


def folds(ids: Sequence[str], rng: np.random.Generator, n: int = FOLDS) -> dict[str, int]:
    """A fold for each prompt id, the same in every language."""
    order = rng.permutation(len(ids))
    return {ids[i]: k % n for k, i in enumerate(order)}


def projections(
    reference: LabelledActivations, others: Sequence[LabelledActivations], fold_of: dict[str, int]
) -> list[LanguageProjection]:
    """Project each language on the reference's unit direction, which no projected prompt or translation of it made.

    Cross-fitted over folds of prompt ids: the direction comes from the reference's prompts outside a fold. Raises
    `BadInput` where a fold lacks a class, or the held-out reference itself does not lie apart.
    """
    fold_ids = [np.array([fold_of[i] for i in other.ids]) for other in others]
    along: list[Float[ndarray, " n"]] = [np.full(len(o.ids), np.nan) for o in (reference, *others)]
    theirs = np.array([fold_of[i] for i in reference.ids])
    for fold in sorted(set(fold_of.values())):
        axis = contrasts(reference.rows, np.where(theirs == fold, 0, reference.signs).astype(np.int8)[None])[0]
        axis /= np.linalg.norm(axis)
        for values, other in zip(along, (reference, *others)):
            here = np.array([fold_of[i] == fold for i in other.ids])
            values[here] = other.rows[here].astype(np.float64) @ axis
    own, *rest = along
    zero, one = own[reference.signs < 0].mean(), own[reference.signs > 0].mean()
    if not one > zero:
        raise BadInput("held-out prompts of the reference language do not lie apart on its own direction")
    found = zip(rest, others, fold_ids)
    return [_split((values - zero) / (one - zero), other.signs, held_out) for values, other, held_out in found]


def _split(
    values: Float[ndarray, " n"], signs: Int8[ndarray, " n"], held_out: Int[ndarray, " n"]
) -> LanguageProjection:
    if not np.isfinite(values).all():
        raise BadInput("a projection is not finite")
    return LanguageProjection(
        values[signs > 0], values[signs < 0], auroc_within(values, signs > 0, held_out.astype(np.int64)).value
    )
