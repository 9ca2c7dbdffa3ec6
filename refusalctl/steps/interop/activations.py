"""Activations of the store for xarray and anndata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refusalctl.errors import BadInput
from refusalctl.interop import arrays
from refusalctl.interop.arrays import ArrayForm, LabelledStream
from refusalctl.json_types import JsonObject
from refusalctl.steps.activations import ACTIVATIONS_FILE, ActivationHeader, open_collected
from refusalctl.store import formats
from refusalctl.store.store import Artifact


def export_activations(
    artifacts: Sequence[Artifact], path: Path, form: ArrayForm, *, pos: int | None = None, layer: int | None = None
) -> None:
    """Write activations, of several artifacts one after another along the prompts. `pos`, `layer`: only these.

    Raises `BadInput` for artifacts of another kind, or of different models, positions or widths.
    """
    arrays.write(path, labelled(artifacts, pos, layer), form)


def labelled(artifacts: Sequence[Artifact], pos: int | None = None, layer: int | None = None) -> LabelledStream:
    """`resid_pre` with the names of its axes; one artifact stays on the disk and is read as it is used."""
    if not artifacts:
        raise BadInput("nothing was named", hint="name activations, such as activations:lang=be")
    parts = [_part(each) for each in artifacts]
    first = parts[0]
    for each, artifact in zip(parts, artifacts, strict=True):
        same = (each.positions, each.values.shape[1:], _model(artifact))
        there = (first.positions, first.values.shape[1:], _model(artifacts[0]))
        if same != there:
            raise BadInput(
                f"{artifact.label} does not fit {artifacts[0].label}: expected one model in one form, one "
                "width, one set of positions",
                hint="export them one by one",
            )
    chosen = [each.at(pos, layer) for each in parts]
    values = chosen[0].values if len(chosen) == 1 else np.concatenate([each.values for each in chosen])
    return LabelledStream(
        values,
        [p for each in chosen for p in each.prompts],
        [p for each in chosen for p in each.langs],
        [p for each in chosen for p in each.kinds],
        chosen[0].positions,
        chosen[0].layers,
        {
            "model": artifacts[0].about.get("model"),
            "revision": _model(artifacts[0])["revision"],
            "artifacts": [each.id for each in artifacts],
            "values": "resid_pre: the residual stream that enters each block, float32",
            "last_instruction_position": first.positions[-1],
        },
    )


def _model(artifact: Artifact) -> JsonObject:
    """All of the model's side that changes activations: weights, template, dtype, attention, system, thinking."""
    found = artifact.manifest["recipe"]["model"]
    assert isinstance(found, dict)
    return found


def _part(artifact: Artifact) -> LabelledStream:
    if artifact.kind != "activations":
        raise BadInput(f"{artifact.label} is {artifact.kind}, expected activations")
    with open_collected(artifact) as (_rows, header):
        told: ActivationHeader = header
    values = formats.map_activations(artifact.path / ACTIVATIONS_FILE)
    n = len(told.prompt_ids)
    return LabelledStream(
        values,
        told.prompt_ids,
        [str(artifact.about["lang"])] * n,
        [str(artifact.about["kind"])] * n,
        [*told.positions, told.inst_position],
        list(range(values.shape[2])),
        {},
    )
