"""What cannot work is told by a plan, and by a run before its first pass: all of it at once, from small files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from refusalctl.errors import BadInput
from refusalctl.model import load
from refusalctl.settings import GeometrySettings, Machine, Settings
from refusalctl.steps.activations import collect_activations
from refusalctl.steps.completions import write_completions
from refusalctl.steps.directions import extract_directions
from refusalctl.steps.geometry import compare_geometry
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.scores import select_direction
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer
from refusalctl.store.store import Store

SMALL = Settings.of(sources=("en",), targets=("be",), n_train=2, n_val=2, n_test=2)


@pytest.fixture
def bench(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """A model whose weights nobody may read."""
    monkeypatch.setattr(load, "load", lambda *_a, **_k: pytest.fail("the model was loaded"))
    return Workbench(Store(tmp_path / "store"), Machine(str(tiny_folder), device="cpu"))


def geometry(bench: Workbench, at: tuple[int, int]) -> object:
    return compare_geometry(bench, GeometrySettings(at=at))


CASES: dict[str, tuple[dict[str, object], Callable[[Workbench], object], str]] = {
    "languages": ({"sources": ("en", "fr"), "targets": ("it",)}, measure_transfer, r"no French \(fr\), Italian \(it\)"),
    "every count": (
        {"n_train": 901, "n_val": 902, "n_test": 903},
        measure_transfer,
        "901 harmful train .*901 harmless train .*902 harmful val .*902 harmless val .*903 harmful test .*903 harmless",
    ),
    "test prompts": ({"n_test": 903}, measure_transfer, "903 harmful test prompts were asked for, 48 are shared"),
    "layers": ({"layers": (1, 99)}, measure_transfer, "layer 99 is not there: the model has layers 0 to 2"),
    "positions": ({"positions": (-999,)}, measure_transfer, "position -999 is not an end-of-instruction position"),
    "no layer": ({"max_layer_share": 0.01}, measure_transfer, "no layer is left: the rule asks for layer < 0"),
    "select: layers": ({"layers": (99,)}, lambda b: select_direction(b, "en"), "layers 0 to 2"),
    "select: positions": ({"positions": (-999,)}, lambda b: select_direction(b, "en"), "position -999"),
    "select: validation prompts": ({"n_val": 902}, lambda b: select_direction(b, "en"), "902 harmful val prompts"),
    "geometry: layer": ({}, lambda b: geometry(b, (-1, 99)), "layer 99 is not there"),
    "geometry: position": ({}, lambda b: geometry(b, (-999, 1)), "position -999"),
}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_what_cannot_work_is_told_before_the_model_is_loaded(bench: Workbench, case: str, dry_run: bool) -> None:
    values, step, words = CASES[case]
    asked = bench.asking(SMALL.changed(**values))
    with pytest.raises(BadInput, match=words):
        step(asked.planning() if dry_run else asked)
    assert not bench.store.ids()


def test_a_plan_of_one_step_tells_it_too(bench: Workbench) -> None:
    plan = bench.asking(SMALL.changed(positions=(-999,))).planning()
    for step in (
        lambda: extract_directions(plan, "en"),
        lambda: collect_activations(plan, draw_prompts(plan, "en", "harmful", "train")),
    ):
        with pytest.raises(BadInput, match="position -999"):
            step()


def test_what_can_work_is_planned(bench: Workbench) -> None:
    measure_transfer(bench.asking(SMALL.changed(layers=(1,), positions=(-1,))).planning())


PLACES: dict[str, tuple[dict[str, object], str]] = {
    "--pos": ({"pos": -999}, "position -999 is not an end-of-instruction position"),
    "--layer": ({"layer": 99}, "layer 99 is not there: the model has layers 0 to 2"),
    "--at-layers": ({"layers": (3,)}, "layer 3 is not there: the model has layers 0 to 2"),
    "--at-positions": ({"positions": (-1, -9999)}, r"prompt \S+ has \d+ tokens, and so no position -9999"),
}


@pytest.mark.parametrize("case", PLACES)
def test_where_an_intervention_acts_is_looked_at_by_plan_and_run_alike(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    changed, words = PLACES[case]
    bench = Workbench(Store(tmp_path), Machine(str(tiny_folder), device="cpu")).asking(SMALL)
    drawn, found = draw_prompts(bench, "en", "harmful", "test"), extract_directions(bench, "en")
    spec = replace(InterventionSpec("add", found, -1, 1), **changed)  # type: ignore[arg-type]
    monkeypatch.setattr(load, "load", lambda *_a, **_k: pytest.fail("the model was loaded"))
    told = []
    for each in (bench.planning(), Workbench(Store(tmp_path), bench.machine).asking(SMALL)):
        with pytest.raises(BadInput, match=words) as raised:
            write_completions(each, drawn, spec, 2)
        told.append((raised.value.message, raised.value.hint))
    assert told[0] == told[1]
    planned = Workbench(Store(tmp_path / "none"), bench.machine).asking(SMALL).planning()
    drawn, found = draw_prompts(planned, "en", "harmful", "test"), extract_directions(planned, "en")
    with pytest.raises(BadInput, match=words):
        write_completions(planned, drawn, replace(spec, direction=found), 2)
    write_completions(planned, drawn, InterventionSpec("add", found, -1, 1, positions=(-1,)), 2)
