"""What a model needs beside what a machine has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusalctl.model.files.resolve import resolve
from refusalctl.model.memory import Device, devices, target, verdict, weights_bytes
from tests import tiny


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_counted_by_their_headers(tiny_folder: Path, dtype: str) -> None:
    built = tiny.model()
    counted = sum(p.numel() for p in built.parameters()) * torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    assert weights_bytes(resolve(str(tiny_folder)), dtype) == counted


def test_weights_that_are_not_here_are_not_guessed(tiny_folder: Path, tmp_path: Path) -> None:
    ref = resolve(str(tiny_folder))
    for file in tiny_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    elsewhere = type(ref)(ref.name, tmp_path, ref.revision, ref.template, hub=True)
    assert weights_bytes(elsewhere, "float32") is None
    fits, told = verdict(None, Device("cpu", "cpu", 10, 10), "float32")
    assert fits
    assert "not known" in told


def test_a_model_needs_more_than_its_weights() -> None:
    device = Device("cuda:0 X", "cuda", 80 * 10**9, 16 * 10**9)
    assert verdict(13 * 10**9, device, "bfloat16") == (
        True,
        "weights need 13.0 GB in bfloat16, 15.6 GB with room to compute (1.2 times the weights); "
        "16.0 GB of 80.0 GB free on cuda:0 X",
    )
    fits, told = verdict(14 * 10**9, device, "bfloat16")
    assert not fits
    assert "too little" in told
    assert "--device shard" in told


def test_weights_are_laid_beside_the_memory_of_the_device_that_was_asked_for() -> None:
    first, second = Device("cuda:0 X", "cuda", 80, 10), Device("cuda:1 X", "cuda", 80, 70)
    processor = Device("cpu, 8 threads", "cpu", 200, 100)
    there = [first, second, processor]
    assert target("cuda", there) == target("cuda:0", there) == first  # not the one with most room: it is not taken
    assert target("cuda:1", there) == second
    assert target("cpu", there) == processor
    assert target("shard", there)[1:] == ("shard", 360, 180)
    assert target("shard", [Device("mps", "mps", 200, 100), processor]).free == 100  # one memory, not two
    assert "--device shard" not in verdict(10**12, target("shard", there), "float32")[1]


def test_the_processor_is_always_there() -> None:
    last = devices()[-1]
    assert last.kind == "cpu"
    assert 0 < last.free <= last.total
