"""One place in depth: how alike the languages' directions are there, and how far their classes of prompts lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refusalctl.errors import BadInput
from refusalctl.records.geometry import (
    ActivationMap,
    DirectionReliability,
    GeometryParameters,
    LanguagePair,
    LanguageProjection,
    LanguageSeparation,
    PermutationTest,
    Projection,
    Site,
)
from refusalctl.stats import separation
from refusalctl.stats.paired import fdr_by
from refusalctl.stats.permutation import permutation_p
from refusalctl.stats.separation import auroc, coordinates, folds, pca_map, projections, silhouette
from refusalctl.stats.similarity import (
    DirectionEstimate,
    Draws,
    LabelledActivations,
    Reliability,
    difference_subspace,
    estimate,
    likeness,
    subspace_angles,
)
from refusalctl.steps.activation_stack import ActivationStack, Place

SUBSPACE_SHUFFLES = 99  # each costs a singular value decomposition per language

Samples = Mapping[str, LabelledActivations]  # by language


def measure_site(stack: ActivationStack, place: Place, asked: GeometryParameters, splits: Draws, null: Draws) -> Site:
    """Pairs, languages and projections at one position and layer."""
    samples = {lang: stack.at(lang, place) for lang in stack.langs}
    estimates = {lang: estimate(sample, splits, null) for lang, sample in samples.items()}
    none = tuple(lang for lang, e in estimates.items() if e is None)
    return Site(
        pos=place.pos,
        layer=place.layer,
        no_direction=none,
        pairs=_pairs(samples, {lang: e for lang, e in estimates.items() if e is not None}, asked, null),
        languages={lang: _separation(sample, estimates[lang], asked) for lang, sample in samples.items()},
        projection=_projection(samples, asked) if asked.reference not in none else None,
    )


def _pairs(
    samples: Samples, estimates: Mapping[str, DirectionEstimate], asked: GeometryParameters, null: Draws
) -> tuple[LanguagePair, ...]:
    """Every pair's likeness; `p_by` controls the false discovery rate over the pairs under any dependence."""

    pairs = list(combinations(estimates, 2))
    if not pairs:
        return ()
    alike = [likeness(estimates[a], estimates[b]) for a, b in pairs]
    adjusted = fdr_by([each.p for each in alike])
    angles = _angles(samples, pairs, asked, null)
    return tuple(
        LanguagePair(
            a=a,
            b=b,
            **each._asdict(),
            p_by=float(p),
            angles=tuple(angle.observed.tolist()),
            angle_null_05=float(np.quantile(angle.null, 0.05)),
            angle_p=permutation_p(int((angle.null <= np.mean(angle.observed)).sum()), len(angle.null)),
        )
        for (a, b), each, p, angle in zip(pairs, alike, adjusted, angles)
    )


class _Angles(NamedTuple):
    """Principal angles in degrees [components], and the mean of each shuffle's [draws]."""

    observed: NDArray[np.float64]
    null: NDArray[np.float64]


def _angles(samples: Samples, pairs: list[tuple[str, str]], asked: GeometryParameters, null: Draws) -> list[_Angles]:
    """Angles between the pairs' difference subspaces, and what shuffled labels give."""

    def angles(draw: int | None) -> list[NDArray[np.float64]]:
        signs = {k: s.signs if draw is None else null.of(s.ids)[draw] for k, s in samples.items()}
        bases = {k: difference_subspace(s.rows, signs[k], asked.components) for k, s in samples.items()}
        return [subspace_angles(bases[a], bases[b]) for a, b in pairs]

    observed = angles(None)
    shuffled = [[each.mean() for each in angles(draw)] for draw in range(min(SUBSPACE_SHUFFLES, asked.permutations))]
    return [_Angles(each, np.array(means)) for each, means in zip(observed, zip(*shuffled))]


def _separation(
    sample: LabelledActivations, found: DirectionEstimate | None, asked: GeometryParameters
) -> LanguageSeparation:
    """Separation in full space and the map of one language."""
    reliability = None if found is None else _reliability(found.reliability)
    if not np.ptp(sample.rows, axis=0).any():
        return LanguageSeparation(None, None, None, reliability)
    points = coordinates(sample.rows)
    drawn = pca_map(points, sample.signs)
    n = asked.separation_permutations
    return LanguageSeparation(
        auroc=_test(auroc(points, sample.signs, n, asked.seed)),
        silhouette=_test(silhouette(points, sample.signs, n, np.random.default_rng(asked.seed))),
        map=ActivationMap(
            harmful=drawn.points[sample.signs > 0].round(4).tolist(),
            harmless=drawn.points[sample.signs < 0].round(4).tolist(),
            explained=drawn.explained.tolist(),
        ),
        reliability=reliability,
    )


def _reliability(found: Reliability) -> DirectionReliability:
    return DirectionReliability(*found)


def _test(found: separation.PermutationTest) -> PermutationTest:
    return PermutationTest(*found)


def _projection(samples: Samples, asked: GeometryParameters) -> Projection:
    """Held-out prompts of every language on the reference direction, or why there are none."""
    everyone = sorted({i for s in samples.values() for i in s.ids})
    fold_of = folds(everyone, np.random.default_rng(asked.seed))
    try:
        projected = projections(samples[asked.reference], list(samples.values()), fold_of)
    except BadInput as error:  # a finding about this place, not about the languages' likeness
        return Projection(asked.reference, {}, error.message)
    rows = {
        lang: LanguageProjection(tuple(p.harmful.round(4).tolist()), tuple(p.harmless.round(4).tolist()), p.auroc)
        for lang, p in zip(samples, projected)
    }
    return Projection(asked.reference, rows)
