"""A frozen artifact of every kind is still whole, and still read by the code of today.

`python -m tests.golden.make` makes all of them again. That is right while nothing was released; from then on those of
a released version stay, and new ones lie beside them.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import msgspec
import pytest

from refusalctl import records
from refusalctl.records.record import Record
from refusalctl.report.artifact_words import described
from refusalctl.report.make import files_of
from refusalctl.results import Activations, Directions, Selection
from refusalctl.results.base import result
from refusalctl.settings import Settings
from refusalctl.steps.activations import ACTIVATIONS_FILE
from refusalctl.steps.calibrate import read_calibration
from refusalctl.steps.comparison import read_comparison
from refusalctl.steps.completions import COMPLETIONS_FILE, read_completions
from refusalctl.steps.comprehension import read_comprehension
from refusalctl.steps.costs.benchmark import ITEMS_FILE, read_items
from refusalctl.steps.costs.drift import DRIFT_FILE, read_drift
from refusalctl.steps.costs.losses import LOSSES_FILE, read_losses
from refusalctl.steps.costs.panel import read_cost
from refusalctl.steps.directions import DIRECTIONS_FILE
from refusalctl.steps.geometry import read_geometry
from refusalctl.steps.interventions import CONTROLS_FILE, SELECTION_FILE, SUBSPACE_FILE
from refusalctl.steps.labelling.correction import read_correction
from refusalctl.steps.labelling.human import SAMPLE_FILE, read_sample
from refusalctl.steps.labelling.labels import LABELS_FILE, read_labels
from refusalctl.steps.labelling.panel import read_panel
from refusalctl.steps.labelling.translations import TRANSLATIONS_FILE, read_translations
from refusalctl.steps.prompt_rows import PROMPTS_FILE, read_prompts
from refusalctl.steps.selection.control_effects import read_controls
from refusalctl.steps.selection.cosmic import read_cosmic
from refusalctl.steps.selection.openings import read_openings
from refusalctl.steps.selection.scores import read_scores
from refusalctl.steps.transfer import read_transfer
from refusalctl.store.hashing import file_digest
from refusalctl.store.store import KINDS, Artifact, Store
from tests.golden.make import STORE

GOLDEN = Store(STORE)
Reader = Callable[[Artifact], object]


# What a format holds, by its version: written by hand. Whoever changes a record raises its VERSION and the version of
# the step that writes it, so that older artifacts are neither found by a recipe nor misread, and writes both down here.
FORMATS = {
    "calibration": (3, "2e90447e7d8b"),
    "comparison": (4, "d1019a2f886b"),
    "comprehension": (3, "0e3c011f3ae0"),
    "controls": (6, "75367a63a875"),
    "correction": (2, "f36657c4a117"),
    "cosmic": (2, "d920a1a2a9ad"),
    "cost": (1, "d8c54c0fd2a3"),
    "geometry": (2, "e7c10f2cf110"),
    "openings": (2, "31c03279c32e"),
    "panel": (3, "38c8e84008c8"),
    "report": (5, "3ad8e8f719a2"),
    "scores": (2, "432efab73751"),
    "selection": (2, "f45ef3e9677b"),
    "transfer": (4, "5d4a33e04b6a"),
}


def opened(see: Callable[[Any], object]) -> Reader:
    """Through the library's own result: `see` looks at what it gives."""
    return lambda artifact: see(result(GOLDEN, artifact))


def directions(found: Directions) -> bool:
    return found.at(found.positions[0], 1).shape == found.candidates.shape[2:] and bool(found.words())


def selection(found: Selection) -> bool:
    at = next(row for row in found.scores if row["chosen"])
    return (at["pos"], at["layer"]) == (found.pos, found.layer) and found.vector.ndim == 1 and bool(found.reliability)


def stream(found: Activations) -> bool:
    return found.resid_pre.shape[:2] == (len(found.prompt_ids), len(found.positions) + 1) and bool(
        found.resid_pre.any()
    )


def transfer(artifact: Artifact) -> object:
    record = read_transfer(artifact)
    return Settings.from_json(record.settings).targets == tuple(record.targets) and record.cells


def scores(artifact: Artifact) -> object:
    return read_scores(artifact).complete


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
    "activations": {ACTIVATIONS_FILE: opened(stream)},
    "directions": {DIRECTIONS_FILE: opened(directions)},
    "openings": {"openings.json": read_openings},
    "scores": {"scores.json": scores, "cosmic.json": read_cosmic},
    "cosmic": {"cosmic.json": described},
    "selection": {SELECTION_FILE: opened(selection), "scores.json": described},
    "subspace": {SUBSPACE_FILE: opened(lambda found: found.basis.ndim == 2)},
    "control_directions": {CONTROLS_FILE: opened(lambda found: "within_class" in found.tensors)},
    "controls": {"controls.json": read_controls},
    "comprehension": {"comprehension.json": read_comprehension},
    "completions": {COMPLETIONS_FILE: read_completions},
    "translations": {TRANSLATIONS_FILE: read_translations},
    "labels": {LABELS_FILE: read_labels},
    "panel": {"panel.json": read_panel},
    "sample": {SAMPLE_FILE: read_sample},
    "correction": {"correction.json": read_correction},
    "geometry": {"geometry.json": read_geometry},
    "transfer": {"transfer.json": transfer},
    "comparison": {"comparison.json": read_comparison},
    "calibration": {"calibration.json": read_calibration},
    "losses": {LOSSES_FILE: read_losses},
    "drift": {DRIFT_FILE: read_drift},
    "benchmark": {ITEMS_FILE: read_items},
    "cost": {"cost.json": read_cost},
    "report": {"*": tables},
}


def test_a_format_that_changes_has_another_version() -> None:
    found = {}
    for module in iter_modules(records.__path__):
        import_module(f"{records.__name__}.{module.name}")
    for kind in kinds(Record):
        shape = json.dumps(_bare(msgspec.json.schema(kind)), sort_keys=True)
        found[kind.FORMAT] = (kind.VERSION, sha256(shape.encode()).hexdigest()[:12])
    assert found == FORMATS


def kinds(kind: type[Record]) -> list[type[Record]]:
    return [each for child in kind.__subclasses__() for each in (child, *kinds(child))]


def _bare(schema: Any) -> Any:
    """Without words."""
    if isinstance(schema, dict):
        return {key: _bare(value) for key, value in schema.items() if key not in ("description", "title")}
    return [_bare(each) for each in schema] if isinstance(schema, list) else schema


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


def test_the_reader_of_the_specification_reads_every_kind(tmp_path: Path) -> None:
    """docs/specification.md is enough for a program that knows nothing of this one, and its checks notice damage."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "specification.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    reader: dict[str, Any] = {}
    exec(compile(code, "docs/specification.md", "exec"), reader)
    found = list(reader["artifacts"](STORE))
    assert {manifest["kind"] for _folder, manifest in found} == set(KINDS)
    for folder, manifest in found:
        for name in manifest["files"]:
            if Path(name).suffix in (".json", ".jsonl", ".safetensors", ".h5"):
                said, content = reader["payload_of"](folder / name)
                assert len(content) > 0
                assert name.endswith(".jsonl") or said["format"].startswith("refusalctl.")
    folder = shutil.copytree(found[0][0], tmp_path / found[0][0].parent.name / found[0][0].name)
    reader["manifest_of"](folder)
    for name in ("manifest.json", "run.json", next(iter(found[0][1]["files"]))):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole.replace(b"1", b"2", 1))
        with pytest.raises(ValueError, match=r"is not what|changed"):
            reader["manifest_of"](folder)
        (folder / name).write_bytes(whole)
