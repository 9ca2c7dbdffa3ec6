"""Where ablation puts a target's stream: read from the means that its own directions came with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusalctl.records.cell import LanguagePair
from refusalctl.steps.directions import DIRECTIONS_FILE
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.zero_points import zero_points
from refusalctl.store import formats
from refusalctl.store.store import Artifact


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
