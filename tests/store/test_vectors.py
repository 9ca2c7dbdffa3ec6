"""Safetensors that are hostile: sizes that are not there, axes without end, types that are never written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from benchmarks.torture import hostile_files
from refusalctl.errors import Corrupt
from refusalctl.store import formats

READ = {"NaN", "another name", "no place", "a place that is none"}  # whole; whoever needs what is missing says so


@pytest.mark.parametrize("kind", sorted(set(hostile_files._SAFETENSORS) - READ))
def test_only_what_this_tool_writes_is_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "selection.safetensors"
    monkeypatch.setattr(hostile_files, "_SAFETENSORS", {kind: hostile_files._SAFETENSORS[kind]})
    hostile_files.safetensors(path, random.Random(0))
    with pytest.raises(Corrupt):
        formats.read_vectors(path, "selection")


def test_a_tensor_or_a_field_that_is_not_there_is_damage_and_no_bug(tmp_path: Path) -> None:
    path = tmp_path / "selection.safetensors"
    formats.write_vectors(path, "selection", {"direction": torch.ones(4)}, {"pos": -1})
    tensors, header = formats.read_vectors(path, "selection")
    assert tensors["direction"].shape == (4,)
    with pytest.raises(Corrupt, match=r"does not say its 'mean_harmless'"):
        tensors["mean_harmless"]
    with pytest.raises(Corrupt, match=r"does not say its 'layer'"):
        header["layer"]


@pytest.mark.parametrize(
    ("kind", "tensors"),
    [
        ("directions", {"candidates": torch.ones(2, 3)}),
        ("directions", {"candidates": torch.ones(2, 3, 4), "mean_harmless": torch.ones(2, 3, 5)}),
        ("directions", {"candidates": torch.ones(2, 3, 4), "split_half": torch.ones(2, 2)}),
        ("selection", {"direction": torch.ones(4), "mean_harmless": torch.ones(5)}),
        ("subspace", {"basis": torch.ones(4)}),
        ("selection", {"direction": torch.ones(0)}),
    ],
)
def test_axes_that_do_not_fit_are_refused(tmp_path: Path, kind: str, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "x.safetensors"
    formats.write_vectors(path, kind, tensors, {})
    with pytest.raises(Corrupt, match="makes no sense"):
        formats.read_vectors(path, kind)
