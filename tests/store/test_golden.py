"""A frozen artifact of every kind is still found, still whole, and still read by the code of today.

`python -m tests.golden.make` makes all of them again. That is right while nothing was released; from then on those of
a released version stay, and new ones lie beside them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

import pytest

from refusalctl.report import report
from refusalctl.steps import (
    activations,
    calibrate,
    completions,
    comprehension,
    directions,
    geometry,
    interventions,
    prompts,
    transfer,
)
from refusalctl.steps.labelling import correction, human, labels, panel, translations
from refusalctl.steps.selection import controls, cosmic, openings, scores
from refusalctl.store import formats
from refusalctl.store.hashing import file_digest
from refusalctl.store.store import KINDS, Artifact, Store
from tests.golden.make import STORE

GOLDEN = Store(STORE)
Reader = Callable[[Artifact], object]


def vectors(file: str, kind: str) -> Reader:
    return lambda artifact: formats.read_vectors(artifact.path / file, kind)


def stream(artifact: Artifact) -> object:
    with formats.open_activations(artifact.path / activations.FILE) as (data, header):
        return data[:].shape == (len(header["prompt_ids"]), *data.shape[1:]) and data[:].any()


def tables(artifact: Artifact) -> object:
    """Every file of a report, as what its ending says."""
    for path in report.files_of(artifact, "csv"):
        with path.open(encoding="utf-8", newline="") as content:
            assert next(csv.reader(content))
    for path in report.files_of(artifact, "png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    (value,) = (json.loads(path.read_bytes()) for path in report.files_of(artifact, "json"))
    return value and report.files_of(artifact, "html")[0].read_text(encoding="utf-8")


# kind -> payload file -> what reads it; a report's many files have one reader
READERS: dict[str, dict[str, Reader]] = {
    "prompts": {prompts.FILE: prompts.read},
    "activations": {activations.FILE: stream},
    "directions": {directions.FILE: vectors(directions.FILE, "directions")},
    "openings": {openings.FILE: openings.read},
    "scores": {scores.SCORES_FILE: scores.read_scores, cosmic.FILE: cosmic.read},
    "cosmic": {cosmic.FILE: cosmic.read},
    "selection": {
        interventions.SELECTION_FILE: vectors(interventions.SELECTION_FILE, "selection"),
        scores.SCORES_FILE: scores.read_scores,
    },
    "subspace": {interventions.SUBSPACE_FILE: vectors(interventions.SUBSPACE_FILE, "subspace")},
    "control_directions": {interventions.CONTROLS_FILE: vectors(interventions.CONTROLS_FILE, "control_directions")},
    "controls": {controls.FILE: controls.read},
    "comprehension": {comprehension.FILE: comprehension.read},
    "completions": {completions.FILE: completions.read},
    "translations": {translations.FILE: translations.read},
    "labels": {labels.FILE: labels.read},
    "panel": {panel.FILE: panel.read},
    "sample": {human.FILE: human.read},
    "correction": {correction.FILE: correction.read},
    "geometry": {geometry.FILE: geometry.read},
    "transfer": {transfer.FILE: transfer.read},
    "calibration": {calibrate.FILE: calibrate.read},
    "report": {"*": tables},
}


def test_every_kind_has_an_artifact_and_a_reader() -> None:
    assert {kind for kind, _ in GOLDEN.ids()} == set(KINDS) == set(READERS)
    assert sum(path.stat().st_size for path in STORE.rglob("*") if path.is_file()) < 1_500_000


@pytest.mark.parametrize(("kind", "identifier"), GOLDEN.ids(), ids=lambda each: each[:20])
def test_a_frozen_artifact_is_whole_and_read(kind: str, identifier: str) -> None:
    artifact = GOLDEN.open(kind, identifier)  # raises where the manifest does not give this id
    assert GOLDEN.run_info(artifact)
    files = {path.name for path in artifact.path.iterdir()} - {"manifest.json", "run.json"}
    assert files == set(artifact.manifest["files"])
    for name, said in artifact.manifest["files"].items():
        path = artifact.path / name
        assert (file_digest(path), path.stat().st_size) == (said["sha256"], said["bytes"])
    readers = READERS[kind]
    assert "*" in readers or files == set(readers)
    for reader in readers.values():
        assert reader(artifact)
