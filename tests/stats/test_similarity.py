"""Likeness of directions against worlds where the truth is planted."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from refusalctl.errors import BadInput
from refusalctl.stats import separation, similarity
from refusalctl.stats.permutation import p_at_least
from refusalctl.stats.similarity import LabelledActivations, estimate, halves, likeness, shuffles

N, D = 60, 400
IDS = tuple(f"{kind}-{i}" for kind in ("harmful", "harmless") for i in range(N))
CLASSES = (IDS[:N], IDS[N:])
SIGNS = np.repeat(np.array([1, -1], np.int8), [N, N])


def language(axis: np.ndarray, noise: np.ndarray) -> LabelledActivations:
    return LabelledActivations((SIGNS[:, None] * axis / 2 + noise).astype(np.float32), IDS, SIGNS)


def axes(cosine: float, rng: np.random.Generator, length: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    basis, _ = np.linalg.qr(rng.normal(size=(D, 2)))
    return length * basis[:, 0], length * (cosine * basis[:, 0] + np.sqrt(1 - cosine**2) * basis[:, 1])


def compared(a: LabelledActivations, b: LabelledActivations, seed: int = 0) -> similarity.Likeness:
    rng = np.random.default_rng(seed)
    splits, null = halves(CLASSES, 40, rng), shuffles(CLASSES, 199, rng)
    one, two = estimate(a, splits, null), estimate(b, splits, null)
    assert one is not None
    assert two is not None
    return likeness(one, two)


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9])
def test_the_noise_ceiling_lowers_the_cosine_and_disattenuation_undoes_it(cosine: float) -> None:
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        one, two = axes(cosine, rng)
        found.append(compared(language(one, rng.normal(size=(120, D))), language(two, rng.normal(size=(120, D)))))
    # |axis|^2 = 4, noise of a difference of means 400 * 2/60: reliability 4 / (4 + 13.3) = 0.23
    assert np.mean([f.ceiling for f in found]) == pytest.approx(0.23, abs=0.04)
    assert np.mean([f.cosine for f in found]) == pytest.approx(0.23 * cosine, abs=0.05)
    assert np.mean([f.disattenuated for f in found]) == pytest.approx(cosine, abs=0.15)


def test_noise_that_translations_share_raises_the_cosine_but_not_the_disattenuated_one() -> None:
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        (one, two), noise = axes(0.0, rng), rng.normal(size=(120, D))
        found.append(compared(language(one, noise), language(two, noise)))
    assert np.mean([f.cosine for f in found]) > 0.5
    assert abs(np.mean([f.disattenuated for f in found])) < 0.15


def test_reliability_of_all_prompts_is_that_of_halves_twice_as_large() -> None:
    rng = np.random.default_rng(1)
    axis, _ = axes(0.0, rng)
    half = similarity.halved(language(axis, rng.normal(size=(120, D))), halves(CLASSES, 200, rng))
    predicted = similarity.reliability(half).full
    pairs = [[language(axis, rng.normal(size=(120, D))) for _ in range(2)] for _ in range(60)]
    measured = [
        float(similarity.cosines(*(similarity.contrasts(x.rows, SIGNS[None]) for x in pair))[0]) for pair in pairs
    ]
    assert predicted == pytest.approx(np.mean(measured), abs=0.05)


def test_halves_that_agree_on_nothing_have_no_reliability() -> None:
    parts = similarity.HalfDirections(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.2]]))
    assert similarity.reliability(parts).full is None


def test_unrelated_labels_give_uniform_p() -> None:
    ps = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(120, 20)), rng.normal(size=(120, 20))
        ps.append(compared(*(LabelledActivations(n.astype(np.float32), IDS, SIGNS) for n in noise), seed).p)
    assert min(ps) >= 1 / 200
    assert np.mean(np.array(ps) <= 0.1) == pytest.approx(0.1, abs=0.08)
    assert np.mean(ps) == pytest.approx(0.5, abs=0.1)


def test_p_counts_the_observed_value_among_the_shuffles() -> None:
    assert p_at_least(2.0, np.array([0.0, 1.0, 2.0, 3.0])) == 3 / 5
    assert p_at_least(9.0, np.zeros(99)) == 1 / 100


def test_draws_are_balanced_and_the_same_for_a_prompt_in_every_language() -> None:
    splits = halves(CLASSES, 7, np.random.default_rng(0))
    for ids in CLASSES:
        assert not splits.of(ids).sum(1).any()
    backwards = IDS[::-1]
    assert (splits.of(backwards) == splits.of(IDS)[:, ::-1]).all()
    labels = shuffles(CLASSES, 7, np.random.default_rng(0)).of(IDS)
    assert ((labels > 0).sum(1) == N).all()
    assert len({row.tobytes() for row in labels}) == 7


def test_a_class_without_prompts_is_an_error() -> None:
    with pytest.raises(BadInput, match="no prompt of one class"):
        similarity.contrasts(np.ones((3, 2), np.float32), np.array([[1, 1, 0]], np.int8))


def test_equal_means_are_no_direction() -> None:
    rows = np.tile(np.array([[1000.0, 1.0]], np.float32), (120, 1))
    assert similarity.direction(LabelledActivations(rows, IDS, SIGNS)) is None


@pytest.mark.parametrize("odd", [1, 30])
def test_classes_that_end_on_the_same_tokens_but_for_a_few_are_no_direction(odd: int) -> None:
    """What enters the first layer is one of a few vectors: some halves and shuffles then hold no difference at all."""
    rows = np.tile(np.ones(D, np.float32), (2 * N, 1))
    rows[:odd] = 2.0
    sample, rng = LabelledActivations(rows, IDS, SIGNS), np.random.default_rng(0)
    splits, null = halves(CLASSES, 40, rng), shuffles(CLASSES, 199, rng)
    assert similarity.direction(sample) is not None
    assert (similarity.halved(sample, splits) is None) == (odd == 1)
    assert estimate(sample, splits, null) is None or odd > 1


def test_subspace_angles_of_known_planes() -> None:
    eye = np.eye(5)
    assert similarity.subspace_angles(eye[:, :2], eye[:, :2]) == pytest.approx([0, 0], abs=1e-6)
    assert similarity.subspace_angles(eye[:, :2], eye[:, 2:4]) == pytest.approx([90, 90])
    turned = np.stack([eye[0], (eye[1] + eye[2]) / np.sqrt(2)], axis=1)
    assert similarity.subspace_angles(eye[:, :2], turned) == pytest.approx([0, 45], abs=1e-6)


def test_first_axis_of_the_difference_subspace_is_the_difference_in_means() -> None:
    rng = np.random.default_rng(0)
    axis, _ = axes(0.0, rng, 40.0)
    sample = language(axis, rng.normal(size=(120, D)))
    basis = similarity.difference_subspace(sample.rows, SIGNS, 2)
    found = similarity.direction(sample)
    assert found is not None
    assert abs(float(basis[:, 0] @ found / np.linalg.norm(found))) > 0.99
    with pytest.raises(BadInput, match="span no 61 dimensions"):
        similarity.difference_subspace(sample.rows, SIGNS, 61)


# --- separation --------------------------------------------------------------------------------------


def test_coordinates_keep_every_distance() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 200)).astype(np.float32)
    points = separation.coordinates(rows)
    assert points.shape == (30, 30)
    full = np.linalg.norm(rows[:, None].astype(np.float64) - rows[None], axis=2)
    reduced = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert reduced / reduced.max() == pytest.approx(full / full.max(), abs=1e-9)


def test_separability_of_noise_is_a_coin_and_of_two_clouds_is_perfect() -> None:
    tested = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(120, D)).astype(np.float32)
        points = separation.coordinates(noise)
        tested.append((separation.auroc(points, SIGNS, 9, seed), separation.silhouette(points, SIGNS, 9, rng)))
    # in sample it would be 1: 120 points in 400 dimensions
    assert np.mean([coin.value for coin, _ in tested]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([coin.p for coin, _ in tested]) > 0.25
    assert np.mean([shape.p for _, shape in tested]) > 0.25
    apart = separation.coordinates(noise + 3 * SIGNS[:, None])
    sure = separation.auroc(apart, SIGNS, 19, 0)
    assert (sure.value, sure.p) == (1.0, 1 / 20)
    shape = separation.silhouette(apart, SIGNS, 19, rng)
    assert shape.value > 0.5
    assert shape.p == 1 / 20


def test_too_few_prompts_for_the_folds_are_named() -> None:
    points = np.random.default_rng(0).normal(size=(8, 4))
    with pytest.raises(BadInput, match="4 prompts of a class cannot fill 5 folds"):
        separation.auroc(points, np.repeat(np.array([1, -1], np.int8), 4), 5, 0)


def test_map_puts_harmful_prompts_right_and_above() -> None:
    rng = np.random.default_rng(0)
    for flip in (1, -1):
        found = separation.pca_map(separation.coordinates(rng.normal(size=(120, 30)) + flip * SIGNS[:, None]), SIGNS)
        assert found.points[SIGNS > 0, 0].mean() > found.points[SIGNS < 0, 0].mean()
        assert found.explained[0] >= found.explained[1] > 0


def projected(a: LabelledActivations, b: LabelledActivations) -> list[separation.LanguageProjection]:
    fold_of = separation.folds(sorted(IDS), np.random.default_rng(0))
    return separation.projections(a, [a, b], fold_of)


def test_projections_are_held_out_and_in_units_of_the_reference_gap() -> None:
    rng = np.random.default_rng(0)
    axis, _ = axes(0.0, rng, 20.0)
    own, half = projected(language(axis, rng.normal(size=(120, D))), language(axis / 2, rng.normal(size=(120, D))))
    assert (own.harmless.mean(), own.harmful.mean()) == pytest.approx((0, 1), abs=1e-9)
    assert half.harmful.mean() - half.harmless.mean() == pytest.approx(0.5, abs=0.05)
    assert half.auroc == 1.0


def test_noise_does_not_look_separable_on_its_own_direction() -> None:
    values = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=(120, D)).astype(np.float32)
        sample = LabelledActivations(noise, IDS, SIGNS)
        with suppress(BadInput):  # the held-out reference may not lie apart at all
            values.append(projected(sample, sample)[0].auroc)
    assert values
    # in sample every one of them would be 1
    assert all(v < 0.75 for v in values)
