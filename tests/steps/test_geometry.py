"""The geometry step on activations with planted directions, and on a model organism."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from refusalctl.errors import BadInput
from refusalctl.records.geometry import (
    Curves,
    LanguageGeometry,
    LanguagePair,
    LanguageSeparation,
    ReliabilityCurve,
    Site,
)
from refusalctl.settings import GeometrySettings, Machine, Settings
from refusalctl.steps.activations import ACTIVATIONS_FILE
from refusalctl.steps.geometry import (
    compare_geometry,
    geometry_of_activations,
    most_reliable,
    parameters,
    read_geometry,
)
from refusalctl.steps.prompts import DRAW
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

N, D, LAYERS = 20, 24, 4
POSITIONS, INST = [-2, -1], -3
FEW = GeometrySettings(reference="en", halves=10, permutations=49, separation_permutations=9, components=2)


def collected(store: Store, lang: str, axis: int, seed: int, spoil: bool = False) -> dict[str, Artifact]:
    """Activations as `collect` leaves them: harmful prompts shifted along one axis from layer 1 on."""
    made = {}
    for kind in ("harmful", "harmless"):
        rng = np.random.default_rng([seed, kind == "harmful"])
        rows = rng.normal(scale=0.3, size=(N, 3, LAYERS, D)).astype(np.float32)
        rows[:, :2, 0] = 1.0  # an end-of-instruction token's embedding is the same after every prompt
        if kind == "harmful":
            rows[:, :2, 1:, axis] += 2.0
            rows[:, 2, 1:, 9] += 2.0  # at the last instruction token: the same axis in every language
        if spoil:
            rows[3, 1, 2, 5] = np.inf
        ids = [f"{kind}-{i}" for i in range(N)]
        about = {"positions": POSITIONS, "inst_position": INST, "suffix_tokens": ["a", "b"], "prompt_ids": ids}
        with store.draft() as out:
            with formats.write_activations(
                out / ACTIVATIONS_FILE, formats.ActivationShape(N, 3, LAYERS, D), about
            ) as writer:
                writer.put(list(range(N)), rows)
            recipe = {"step": "collect", "version": 1, "params": {"seed": seed}, "inputs": {}}
            info = {"lang": lang, "kind": kind, "split": "train", "n": N}
            made[kind] = store.commit(out, "activations", recipe | {"for": [lang, kind, spoil]}, info, {})
    return made


def bench(root: Path) -> Workbench:
    return Workbench(Store(root), Machine("none", device="cpu"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> LanguageGeometry:
    at = bench(tmp_path_factory.mktemp("geometry"))
    three = {"en": (0, 1), "be": (0, 2), "ba": (1, 3)}
    made = {lang: collected(at.store, lang, *how) for lang, how in three.items()}
    return read_geometry(geometry_of_activations(at, made, FEW, "tiny"))


def pair(site: Site, a: str, b: str) -> LanguagePair:
    return next(p for p in site.pairs if (p.a, p.b) == (a, b))


def test_a_shared_axis_is_alike_and_another_is_not(found: LanguageGeometry) -> None:
    site = found.sites.refusal
    same, other = pair(site, "en", "be"), pair(site, "en", "ba")
    assert same.cosine > 0.9
    assert same.cosine < same.ceiling + 0.05
    assert same.disattenuated == pytest.approx(1, abs=0.05)
    assert same.p_by <= 3 * (1 + 1 / 2 + 1 / 3) / 50  # three pairs, Benjamini and Yekutieli's factor
    assert abs(other.disattenuated) < 0.15
    assert other.p > 0.05
    assert np.mean(same.angles) < np.mean(other.angles)


def test_harmfulness_is_kept_apart_from_refusal(found: LanguageGeometry) -> None:
    site = found.sites.harmfulness
    assert site.pos == INST
    assert pair(site, "en", "ba").cosine > 0.9  # though their refusal directions differ
    assert abs(found.harmfulness_to_refusal["ba"]) < 0.2


def test_curves_cover_every_matched_place_and_say_where_there_is_no_direction(found: LanguageGeometry) -> None:
    curves = found.curves
    assert {(c.pos, len(c.values)) for c in curves.cosine} == {(p, LAYERS) for p in (*POSITIONS, INST)}
    for row in curves.cosine:
        assert (row.values[0] is None) == (row.pos in POSITIONS)
    for row in (*curves.cosine, *curves.reliability):
        assert row.values[0] is None or row.pos == INST
        assert None not in row.values[1:]


def test_the_place_is_reliable_and_below_the_layer_limit(found: LanguageGeometry) -> None:
    site = found.sites.refusal
    assert found.settings.chosen_at == "most reliable"
    assert site.pos in POSITIONS
    assert 1 <= site.layer < 3  # floor(0.8 * 4)
    lowest = {
        (pos, layer): min(r.values[layer] for r in found.curves.reliability if r.pos == pos)
        for pos in POSITIONS
        for layer in (1, 2)
    }
    assert lowest[site.pos, site.layer] == max(lowest.values())


def test_the_layer_limit_and_the_weakest_language_decide_the_place() -> None:
    rows = {
        ("en", -1): [None, 0.9, 0.6, 0.99], ("be", -1): [None, 0.1, 0.5, 0.99],
        ("en", -2): [None, 0.4, 0.45, 0.99], ("be", -2): [None, 0.4, None, 0.99],
    }  # fmt: skip
    curves = Curves((), tuple(ReliabilityCurve(lang, pos, tuple(v)) for (lang, pos), v in rows.items()))
    # layer 3 is not below floor(0.8 * 4); at (-1, 1) one language is all but noise
    assert most_reliable(curves, [-2, -1], 4) == (-1, 2)
    nowhere = Curves((), (ReliabilityCurve("en", -1, (None,) * 4),))
    with pytest.raises(BadInput, match="at no position and layer"):
        most_reliable(nowhere, [-1], 4)


def test_projections_show_who_lies_on_the_english_direction(found: LanguageGeometry) -> None:
    rows = found.sites.refusal.projection.languages
    assert np.mean(rows["en"].harmful) == pytest.approx(1, abs=1e-3)
    assert np.mean(rows["be"].harmful) == pytest.approx(1, abs=0.15)
    assert np.mean(rows["ba"].harmful) == pytest.approx(0, abs=0.15)
    assert rows["be"].auroc > 0.95
    assert rows["ba"].auroc < 0.8


def test_each_language_has_a_map_and_its_separability(found: LanguageGeometry) -> None:
    for each in found.sites.refusal.languages.values():
        assert len(each.map.harmful) == len(each.map.harmless) == N
        assert each.auroc.value > 0.95
        assert each.silhouette.p == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        at = bench(tmp_path / name)
        made = {lang: collected(at.store, lang, 0, i) for i, lang in enumerate(("en", "be"))}
        artifact = geometry_of_activations(at, made, FEW, "tiny", seed)
        digests.append(artifact.manifest["files"][LanguageGeometry.FILE]["sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_a_given_place_is_used_and_one_without_activations_refused(tmp_path: Path) -> None:
    at = bench(tmp_path)
    made = {lang: collected(at.store, lang, 0, i) for i, lang in enumerate(("en", "be"))}
    value = read_geometry(geometry_of_activations(at, made, replace(FEW, at=(-2, 3)), "tiny"))
    assert (value.sites.refusal.pos, value.sites.refusal.layer) == (-2, 3)
    for wrong in ((-3, 2), (-1, 4)):  # the last instruction token is not a place of a refusal direction
        with pytest.raises(BadInput, match="there are no activations"):
            geometry_of_activations(at, made, replace(FEW, at=wrong), "tiny")


def test_a_place_without_any_direction_has_no_number(tmp_path: Path) -> None:
    at = bench(tmp_path)
    made = {lang: collected(at.store, lang, 0, i) for i, lang in enumerate(("en", "be"))}
    site = read_geometry(geometry_of_activations(at, made, replace(FEW, at=(-1, 0)), "tiny")).sites
    assert site.refusal.no_direction == ("en", "be")
    assert site.refusal.pairs == ()
    assert site.refusal.projection is None
    assert site.refusal.languages["en"] == LanguageSeparation(None, None, None, None)


def test_infinite_activations_are_an_error(tmp_path: Path) -> None:
    at = bench(tmp_path)
    made = {"en": collected(at.store, "en", 0, 1), "be": collected(at.store, "be", 0, 2, spoil=True)}
    with pytest.raises(BadInput, match="the be activations at position -1, layer 2 are not finite"):
        geometry_of_activations(at, made, FEW, "tiny")


@pytest.mark.parametrize(
    ("langs", "change", "message"),
    [
        (["en"], {}, "at least two"),
        (["en", "be"], {"reference": "ba"}, "not among en, be"),
        (["en", "be"], {"halves": 0}, "halves is 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(langs: list[str], change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parameters(GeometrySettings(**change), langs, 0)


def test_the_first_language_is_the_reference_unless_another_is_named() -> None:
    assert parameters(GeometrySettings(), ["be", "en"], 0).reference == "be"
    assert parameters(FEW, ["be", "en"], 0).reference == "en"


def test_planted_mechanisms_of_an_organism_are_found(tmp_path: Path) -> None:
    name = "organism:separate"
    at = Workbench(
        Store(tmp_path), Machine(name, device="cpu"), Settings.of(data=name, n_train=40, targets=["qaa", "qab"])
    )
    site = read_geometry(compare_geometry(at, replace(FEW, reference="qaa"))).sites.refusal
    assert abs(site.pairs[0].cosine) < 0.1
    assert site.projection.languages["qaa"].auroc == 1.0
    assert {a.about["split"] for a in at.store.all("prompts")} == {"train"}
    assert DRAW.name in {p.step for p in at.plan}
