"""Directions out of the store and back, and onto a model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

import refusalctl as rc
from refusalctl.errors import BadInput
from refusalctl.interop import vector_files
from refusalctl.interop.direction import PortableDirection
from refusalctl.interop.layer_names import SAFETENSORS
from refusalctl.model.fingerprint import weights_fingerprint
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.steps.interop.directions import AskedDirection, export_direction, given_vectors
from refusalctl.steps.published.request import Request
from refusalctl.steps.published.runs import import_files
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Artifact, Store
from tests import tiny
from tests.steps.interop.world import directions_store
from tests.steps.published.published_files import labels_file

VECTOR = 2 * torch.randn(32, generator=torch.Generator().manual_seed(5))
IDS = torch.arange(40, 52)[None]


@pytest.fixture
def chosen(tmp_path: Path) -> Artifact:
    return directions_store(tmp_path / "store", VECTOR, layer=2, n_layers=4)[1]


def test_a_direction_goes_out_and_comes_back_with_all_that_it_says(chosen: Artifact, tmp_path: Path) -> None:
    for form, operation in (
        ("safetensors", "ablate"),
        ("gguf", "add"),
        ("steering-vectors", "add"),
        ("nnterp", "ablate"),
    ):
        path = tmp_path / f"{form}.{'gguf' if form == 'gguf' else 'safetensors'}"
        export_direction(chosen, path, form, AskedDirection(operation, model_hint="qwen2"))  # type: ignore[arg-type]
        bench = Workbench(Store(tmp_path / form))
        (back,) = import_files(bench, [path], Request())
        found = rc.open(back.id, store=tmp_path / form)
        assert torch.equal(found.vector, VECTOR)  # type: ignore[attr-defined]
        assert (found.pos, found.layer) == (-1, 2)  # type: ignore[attr-defined]
        about = {k: found.about[k] for k in ("model", "revision", "lang", "provenance", "points")}
        assert about == {"model": "tiny", "revision": "r1", "lang": "be", "provenance": "imported",
                         "points": "harmless-to-harmful"}  # fmt: skip
        assert bench.notes == []


def test_what_a_file_does_not_say_must_be_told(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"blocks.1.hook_resid_post": VECTOR}, path)
    for request, told in (
        (Request(), "does not say its language"),
        (Request(lang="be"), "does not say at which position"),
        (Request(lang="be", pos=1), "count back"),
        (Request(lang="be", pos=-1, layer=1), "holds no direction for the stream that enters block 1"),
    ):
        with pytest.raises(BadInput, match=told):
            given_vectors([path], request)
    (given,) = given_vectors([path], Request(lang="be", pos=-1))
    assert (given.direction.place, given.points) == ((-1, 2), "untold")
    bench = Workbench(Store(tmp_path / "store"))
    import_files(bench, [path], Request(lang="be", pos=-1))
    assert "does not say whether its direction points to refusal" in bench.notes[0]


def test_flags_that_contradict_a_file_are_refused(chosen: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    export_direction(chosen, path, "safetensors", AskedDirection())
    for request in (Request(lang="en"), Request(model="x"), Request(revision="x"), Request(pos=-2), Request(layer=3)):
        with pytest.raises(BadInput, match="says"):
            given_vectors([path], request)


def test_what_is_told_of_files_that_were_not_given_is_refused_before_anything_is_written(
    chosen: Artifact, tmp_path: Path
) -> None:
    path, labels = tmp_path / "a.safetensors", labels_file(tmp_path, baseline={"refusal": "010"})
    export_direction(chosen, path, "safetensors", AskedDirection())
    store = Store(tmp_path / "empty")
    for file, request, told in (
        (path, Request(rule=PRESETS["wang"]), "--rule is about the directions of a published run"),
        (path, Request(kind="harmful", condition="baseline"), "--kind, --condition is about completions"),
        (path, Request(direction_lang="en"), "--direction-lang is about"),
        (labels, Request(lang="be", pos=-1), r"--pos is about directions as \.safetensors"),
        (labels, Request(lang="be", layer=0), "--layer is about"),
    ):
        with pytest.raises(BadInput, match=told):
            import_files(Workbench(store), [file], request)
    assert not list(store.ids())


def test_what_makes_no_sense_is_refused(chosen: Artifact, tmp_path: Path) -> None:
    for form, asked, told in (
        ("safetensors", AskedDirection(coefficient=2.0), "an ablation has no coefficient"),
        ("safetensors", AskedDirection(layers=(1,)), "acts on every write"),
        ("safetensors", AskedDirection("add", layers=(4,)), "layers 0 to 3"),
        ("safetensors", AskedDirection(pos=-1, layer=2), "has chosen its position"),
        ("gguf", AskedDirection("ablate", model_hint="x"), "cannot say that a direction is ablated"),
    ):
        with pytest.raises(BadInput, match=told):
            export_direction(chosen, tmp_path / "a.safetensors", form, asked)


def test_a_loaded_direction_does_what_its_vector_does_and_refuses_another_model(
    chosen: Artifact, tmp_path: Path
) -> None:
    model = tiny.model("llama", n_layers=4)
    for operation, same in (("ablate", rc.ablate(VECTOR)), ("add", rc.add(VECTOR, 0.5, layer=2))):
        path = tmp_path / f"{operation}.safetensors"
        coefficient = 0.5 if operation == "add" else 1.0
        portable = export_direction(chosen, path, "safetensors", AskedDirection(operation, coefficient))  # type: ignore[arg-type]
        known = msgspec.structs.replace(portable.header, weights=weights_fingerprint(model))
        vector_files.write(path, PortableDirection(known, VECTOR), SAFETENSORS)
        with torch.no_grad():
            with rc.intervene(model, rc.load_direction(path, model)):
                found = model(IDS).logits
            with rc.intervene(model, same):
                assert torch.equal(found, model(IDS).logits)
    with pytest.raises(BadInput, match="expected weights sample-bf16"):
        rc.load_direction(path, tiny.model("llama", n_layers=4, seed=1))
    with pytest.raises(BadInput, match="expected layers 4, found 3"):
        rc.load_direction(path, tiny.model("llama", n_layers=3))


def test_several_layers_are_copies_under_their_names(chosen: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    export_direction(chosen, path, "transformer-lens", AskedDirection("add", layers=(1, 3), unit=True))
    found = load_file(path)
    assert sorted(found) == ["blocks.1.hook_resid_pre", "blocks.3.hook_resid_pre"]
    assert float(found["blocks.1.hook_resid_pre"].norm()) == pytest.approx(1.0)
