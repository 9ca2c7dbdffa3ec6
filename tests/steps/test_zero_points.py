"""Where ablation puts a target's stream: read from the means that its own directions came with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusalctl.records.cell import LanguagePair
from refusalctl.settings import Machine, Settings
from refusalctl.stats import verdict
from refusalctl.steps.directions import DIRECTIONS_FILE
from refusalctl.steps.interventions import SELECTION_FILE, from_recipe, in_words, resolve_direction
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer, read_transfer
from refusalctl.steps.zero_points import zero_points
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store


def artifact(folder: Path, kind: str, name: str) -> Artifact:
    (folder / name).mkdir()
    return Artifact(kind, name, folder / name, {})


def means(folder: Path, name: str, harmless: float, harmful: float, positions: tuple[int, ...] = (-2, -1)) -> Artifact:
    """Means at position -1, layer 1; elsewhere others, so that another place would show."""
    found = artifact(folder, "directions", name)
    tensors = {k: torch.full((len(positions), 2, 3), 99.0) for k in ("candidates", "mean_harmful", "mean_harmless")}
    for kind, value in (("mean_harmless", harmless), ("mean_harmful", harmful)):
        tensors[kind][-1, 1] = torch.tensor([value, 5.0, 5.0])
    formats.write_vectors(found.path / DIRECTIONS_FILE, "directions", tensors, {"positions": list(positions)})
    return found


def test_each_target_is_placed_by_its_own_means_at_the_directions_place(tmp_path: Path) -> None:
    chosen = artifact(tmp_path, "selection", "s")
    direction = {"direction": torch.tensor([2.0, 0.0, 0.0])}
    formats.write_vectors(chosen.path / SELECTION_FILE, "selection", direction, {"pos": -1, "layer": 1})
    inputs = {"selection:en": chosen}
    for lang, low, high in (("en", 0.0, 2.0), ("ba", -4.0, -2.0), ("be", 1.0, 1.1)):
        inputs[f"means:{lang}"] = means(tmp_path, lang, low, high)
    inputs["means:tg"] = means(tmp_path, "tg", 0.0, 2.0, positions=(-3, -2))
    found = zero_points(inputs)
    assert {pair.target: each.place for pair, each in found.items()} == {
        "en": 0.0, "ba": pytest.approx(2.0), "be": None, "tg": None
    }  # fmt: skip
    assert "lie together" in str(found[LanguagePair("en", "be")].reason)
    assert "not known at position -1" in str(found[LanguagePair("en", "tg")].reason)
    assert found[LanguagePair("en", "ba")].artifact == "ba"
    assert zero_points({"selection:en": chosen}) == {}


def test_where_ablation_would_leave_the_stream_harmful_the_affine_one_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every zero counts as harmful here, so that a whole matrix has its affine cells; each keeps its target's mean."""
    name = "organism:shared"
    monkeypatch.setattr(verdict, "HARMFUL_SIDE", -9.0)
    bench = Workbench(Store(tmp_path), Machine(name, batch_size=64))
    asked = Settings.of(
        sources="qaa", targets="qaa,qab", data=name, n_train=18, n_val=6, n_test=16, max_new_tokens=6, layers=(2, 3),
        controls=False, induce=False,
    )  # fmt: skip
    found = measure_transfer(bench.asking(asked))
    record = read_transfer(found)
    cells = {cell.key: cell for cell in record.cells}
    assert {key for key in cells if key.startswith("affine")} == {"affine:qaa>qaa", "affine:qab>qab", "affine:qaa>qab"}
    affine, plain = cells["affine:qaa>qab"], cells["qaa>qab"]
    assert affine.removal is not None
    assert affine.removal.removed == plain.removal.removed == 1.0  # type: ignore[union-attr]
    assert "no matching control directions" in affine.removal.reason
    assert plain.zero is not None
    assert plain.zero.place == pytest.approx(0.0, abs=0.1)
    assert not affine.is_ablation
    written = bench.store.open("completions", affine.completions)
    means = found.inputs["means:qab"]
    assert written.inputs["mean"] == means != found.inputs["means:qaa"]
    assert "mean of harmless prompts" in str(in_words(bench.store, written))
    spec = from_recipe(
        written.manifest["recipe"]["params"]["intervention"],
        {k: bench.store.open("directions" if k == "mean" else "selection", v)
         for k, v in written.inputs.items() if k in ("mean", "direction")},
    )  # fmt: skip
    kept, _header = formats.read_vectors(bench.store.open("directions", means).path / DIRECTIONS_FILE, "directions")
    mean = resolve_direction(spec).mean
    assert mean is not None
    assert any(torch.equal(mean, row) for row in kept["mean_harmless"].reshape(-1, mean.shape[-1]))
