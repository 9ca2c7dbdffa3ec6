"""A frozen artifact of every kind is still found, still whole, and still read by the code of today.

`python -m tests.golden.make` makes all of them again. That is right while nothing was released; from then on those of
a released version stay, and new ones lie beside them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

import pytest

from refusalctl.report.make import files_of
from refusalctl.steps.activations import ACTIVATIONS_FILE
from refusalctl.steps.calibrate import read_calibration
from refusalctl.steps.comparison import read_comparison
from refusalctl.steps.completions import COMPLETIONS_FILE, read_completions
from refusalctl.steps.comprehension import read_comprehension
from refusalctl.steps.directions import DIRECTIONS_FILE
from refusalctl.steps.geometry import read_geometry
from refusalctl.steps.interventions import CONTROLS_FILE, SELECTION_FILE, SUBSPACE_FILE
from refusalctl.steps.labelling.correction import read_correction
from refusalctl.steps.labelling.human import SAMPLE_FILE, read_sample
from refusalctl.steps.labelling.labels import LABELS_FILE, read_labels
from refusalctl.steps.labelling.panel import read_panel
from refusalctl.steps.labelling.translations import TRANSLATIONS_FILE, read_translations
from refusalctl.steps.prompts import PROMPTS_FILE, read_prompts
from refusalctl.steps.selection.controls import read_controls
from refusalctl.steps.selection.cosmic import COSMIC_FILE, read_cosmic
from refusalctl.steps.selection.openings import read_openings
from refusalctl.steps.selection.scores import SCORES_FILE, read_scores
from refusalctl.steps.transfer import read_transfer
from refusalctl.store import formats
from refusalctl.store.hashing import file_digest
from refusalctl.store.store import KINDS, Artifact, Store
from tests.golden.make import STORE

GOLDEN = Store(STORE)
Reader = Callable[[Artifact], object]


def vectors(file: str, kind: str) -> Reader:
    return lambda artifact: formats.read_vectors(artifact.path / file, kind)


def stream(artifact: Artifact) -> object:
    with formats.open_activations(artifact.path / ACTIVATIONS_FILE) as (data, header):
        return data[:].shape == (len(header["prompt_ids"]), *data.shape[1:]) and data[:].any()


def tables(artifact: Artifact) -> object:
    """Every file of a report, as what its ending says."""
    for path in files_of(artifact, "csv"):
        with path.open(encoding="utf-8", newline="") as content:
            assert next(csv.reader(content))
    for path in files_of(artifact, "png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    (value,) = (json.loads(path.read_bytes()) for path in files_of(artifact, "json"))
    return value and files_of(artifact, "html")[0].read_text(encoding="utf-8")


# kind -> payload file -> what reads it; a report's many files have one reader
READERS: dict[str, dict[str, Reader]] = {
    "prompts": {PROMPTS_FILE: read_prompts},
    "activations": {ACTIVATIONS_FILE: stream},
    "directions": {DIRECTIONS_FILE: vectors(DIRECTIONS_FILE, "directions")},
    "openings": {"openings.json": read_openings},
    "scores": {SCORES_FILE: read_scores, COSMIC_FILE: read_cosmic},
    "cosmic": {COSMIC_FILE: read_cosmic},
    "selection": {SELECTION_FILE: vectors(SELECTION_FILE, "selection"), SCORES_FILE: read_scores},
    "subspace": {SUBSPACE_FILE: vectors(SUBSPACE_FILE, "subspace")},
    "control_directions": {CONTROLS_FILE: vectors(CONTROLS_FILE, "control_directions")},
    "controls": {"controls.json": read_controls},
    "comprehension": {"comprehension.json": read_comprehension},
    "completions": {COMPLETIONS_FILE: read_completions},
    "translations": {TRANSLATIONS_FILE: read_translations},
    "labels": {LABELS_FILE: read_labels},
    "panel": {"panel.json": read_panel},
    "sample": {SAMPLE_FILE: read_sample},
    "correction": {"correction.json": read_correction},
    "geometry": {"geometry.json": read_geometry},
    "transfer": {"transfer.json": read_transfer},
    "comparison": {"comparison.json": read_comparison},
    "calibration": {"calibration.json": read_calibration},
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
