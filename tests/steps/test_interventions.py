"""Interventions as they are asked for: recipes, words, and what is read from which artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refusalctl.errors import BadInput
from refusalctl.settings import Machine, Settings
from refusalctl.steps.completions import COMPLETE, write_completions
from refusalctl.steps.directions import DIRECTIONS_FILE, extract_directions
from refusalctl.steps.interventions import (
    SELECTION_FILE,
    SUBSPACE_FILE,
    InterventionSpec,
    Source,
    describe,
    end_of_instruction,
    from_recipe,
    in_words,
    resolve_direction,
)
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Workbench:
    return Workbench(Store(tmp_path_factory.mktemp("store")), Machine(str(tiny_folder), device="cpu", batch_size=4))


@pytest.fixture
def candidates(bench: Workbench) -> Artifact:
    return extract_directions(bench.asking(Settings.of(n_train=4)), "be")


def tensors_of(artifact: Artifact) -> dict[str, Any]:
    return formats.read_vectors(artifact.path / DIRECTIONS_FILE, "directions")[0]


def chosen(bench: Workbench, candidates: Artifact, *, mean: bool = True, layer: int = 1) -> Artifact:
    """A selection of the last position, with or without the mean that older ones lack."""
    found = tensors_of(candidates)
    vectors = {"direction": found["candidates"][-1, layer]}
    if mean:
        vectors["mean_harmless"] = found["mean_harmless"][-1, layer]
    header = {"pos": -1, "layer": layer, "suffix_tokens": ["a", "b", "c"]}
    recipe = {"step": "select", "params": {"mean": mean, "layer": layer}, "inputs": {"directions": candidates.id}}
    with bench.store.draft() as out:
        formats.write_vectors(out / SELECTION_FILE, "selection", vectors, header)
        return bench.store.commit(out, "selection", recipe, dict(candidates.about), {"checks": {}, "seconds": 0.0})


def written(bench: Workbench, spec: InterventionSpec) -> Artifact:
    prompts = draw_prompts(bench.asking(Settings.of(n_test=2)), "be", "harmful", "test")
    return write_completions(bench, prompts, spec, 3)


def test_every_part_of_an_intervention_makes_another_recipe(bench: Workbench, candidates: Artifact) -> None:
    base = InterventionSpec("add", candidates, -1, 1)
    specs = [
        base,
        replace(base, coeff=-1.0),
        replace(base, layer=2),
        replace(base, pos=-2),
        replace(base, layers=(0, 1)),
        replace(base, positions=(-1,)),
        replace(base, kind="ablate"),
        replace(base, kind="affine"),
        replace(base, kind="subspace", others=(Source(candidates, -1, 2),)),
        replace(base, kind="subspace", others=(Source(candidates, -2, 2),)),
    ]
    keys = set()
    for spec in specs:
        spec.check(bench)
        recipe = bench.recipe(COMPLETE, {"intervention": spec.params()}, spec.inputs())
        keys.add(repr(recipe))
        again = from_recipe(spec.params(), spec.inputs())
        assert again.params() == spec.params()
        assert again.sources == spec.sources
    assert len(keys) == len(specs)
    assert replace(base, layers=(1, 0, 1)).params() == replace(base, layers=(0, 1)).params()


def test_affine_takes_the_mean_of_the_directions_own_place(bench: Workbench, candidates: Artifact) -> None:
    found = tensors_of(candidates)
    by_place = resolve_direction(InterventionSpec("affine", candidates, -2, 1))
    by_choice = resolve_direction(InterventionSpec("affine", chosen(bench, candidates)))
    for asked, at in ((by_place, (-2, 1)), (by_choice, (-1, 1))):
        assert asked.mean is not None
        assert asked.direction is not None
        assert torch.equal(asked.mean, found["mean_harmless"][at])
        assert torch.equal(asked.direction, found["candidates"][at])
        assert asked.layer == 1
    assert resolve_direction(InterventionSpec("ablate", candidates, -2, 1)).mean is None


def test_a_selection_of_an_older_version_can_be_ablated_and_says_what_affine_lacks(
    bench: Workbench, candidates: Artifact
) -> None:
    old = chosen(bench, candidates, mean=False)
    assert resolve_direction(InterventionSpec("ablate", old)).direction is not None
    with pytest.raises(BadInput, match="without the mean harmless activation; select again"):
        resolve_direction(InterventionSpec("affine", old))


def test_several_directions_are_rows_whatever_holds_them(bench: Workbench, candidates: Artifact) -> None:
    selection = chosen(bench, candidates, layer=2)
    recipe = {"step": "subspace", "params": {}, "inputs": {"selection": selection.id}}
    with bench.store.draft() as out:
        rows = torch.eye(32)[:2]
        formats.write_vectors(out / SUBSPACE_FILE, "subspace", {"basis": rows}, {"pos": -1, "layer": 2})
        about = dict(candidates.about) | {"rank": 2}
        basis = bench.store.commit(out, "subspace", recipe, about, {"checks": {}, "seconds": 0.0})
    spec = InterventionSpec("subspace", candidates, -1, 1, others=(Source(selection), Source(basis)))
    spec.check(bench)
    asked = resolve_direction(spec)
    assert asked.direction is not None
    assert asked.direction.shape == (4, 32)
    assert spec.rank == asked.rank == 4
    assert torch.equal(asked.direction[2:], rows)
    assert list(spec.inputs()) == ["direction", "direction2", "direction3"]
    alone = InterventionSpec("subspace", basis)
    alone.check(bench)
    assert torch.equal(resolve_direction(alone).direction, rows)  # type: ignore[arg-type]


def test_completions_say_in_words_what_was_done(bench: Workbench, candidates: Artifact) -> None:
    spec = InterventionSpec("affine", candidates, -1, 1, layers=(1, 2), positions=(-1,))
    made = written(bench, spec)
    told = in_words(bench.store, made)
    assert told == spec.describe()
    assert told is not None
    for part in (
        "affine ablation",
        "layers 1 to 2",
        "only prompt positions -1",
        candidates.label,
        "position -1, layer 1",
    ):
        assert part in told
    run = bench.store.run_info(made)
    assert run is not None
    assert run["checks"]["max_relative_projection"] < 1e-5
    assert run["checks"]["intervention"].startswith("affine ablation")
    assert in_words(bench.store, written(bench, InterventionSpec())) == "no intervention"
    assert in_words(bench.store, candidates) is None


def test_recipes_of_the_first_version_are_told_in_words_too() -> None:
    old = {"kind": "add", "pos": -1, "layer": 3, "coeff": -2.0}
    assert describe(old).startswith("activation addition, x - 2 r")


def test_end_of_instruction_positions_come_from_the_template_of_the_direction(
    bench: Workbench, candidates: Artifact
) -> None:
    assert list(end_of_instruction(candidates)) == bench.model.chat.positions
    assert end_of_instruction(chosen(bench, candidates)) == (-3, -2, -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "zap"}, "there is no intervention 'zap'"),
        ({"kind": "subspace"}, "does not fit the intervention 'subspace': it is one direction"),
        ({"others": "one"}, "'ablate' takes one direction"),
        ({"layers": ()}, "layers count from 0"),
        ({"layers": (-1,)}, "layers count from 0"),
        ({"positions": (0,)}, "count back from the prompt's end"),
        ({"coeff": -1.0}, "a coefficient has no meaning"),
        ({"pos": None}, "holds one candidate per position and layer"),
        ({"kind": "none"}, "takes no direction"),
        ({"kind": "none", "direction": None, "layers": (1,)}, "no intervention acts nowhere"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    bench: Workbench, candidates: Artifact, change: dict[str, Any], message: str
) -> None:
    if change.get("others"):
        change = {"others": (Source(candidates, -1, 2),)}
    with pytest.raises(BadInput, match=message):
        replace(InterventionSpec("ablate", candidates, -1, 1), **change).check(bench)


def test_a_layer_that_the_model_lacks_is_refused_before_anything_is_generated(
    bench: Workbench, candidates: Artifact
) -> None:
    with pytest.raises(BadInput, match="layer 7 is not there: the model has layers 0 to 2"):
        written(bench, InterventionSpec("ablate", candidates, -1, 1, layers=(7,)))
