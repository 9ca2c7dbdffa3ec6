"""Safetensors of other tools, read with suspicion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import save_file

from refusalctl.errors import BadInput, DataError
from refusalctl.interop import vector_files
from refusalctl.interop.direction import PortableDirection
from refusalctl.interop.layer_names import SAFETENSORS
from tests.interop.test_direction import HEADER

VECTOR = torch.full((32,), 2.0) / 32**0.5


def test_what_a_file_says_must_be_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    vector_files.write(path, PortableDirection(HEADER, VECTOR), SAFETENSORS)
    found = vector_files.read(path)
    assert torch.equal(found.vectors[2], VECTOR)
    entry = {"refusalctl": json.dumps(found.header.to_json())}  # type: ignore[union-attr]
    for tensors, told in (
        ({"resid_pre.3": VECTOR}, r"its header says layers \[2\], its tensors say \[3\]"),
        ({"resid_pre.2": 2 * VECTOR}, "its header says length 2, found 4"),
        ({"resid_pre.2": torch.ones(31)}, "its header says width 32, found 31"),
    ):
        save_file(tensors, path, metadata=entry)
        with pytest.raises(DataError, match=told):
            vector_files.read(path)


def test_a_header_is_of_one_direction_where_it_says_that_it_acts(tmp_path: Path) -> None:
    path, header = tmp_path / "a.safetensors", replace(HEADER, operation="add", act_at=(1, 3))
    vector_files.write(path, PortableDirection(header, VECTOR), SAFETENSORS)
    found = vector_files.read(path)
    assert list(found.vectors) == [1, 3]
    assert found.header is not None
    for told, sign, said in ((found.header, -1, "different ones"), (replace(found.header, act_at=(0,)), 1, "acts at")):
        tensors = {"resid_pre.1": VECTOR.clone(), "resid_pre.3": sign * VECTOR}
        save_file(tensors, path, metadata={"refusalctl": json.dumps(told.to_json())})
        with pytest.raises(DataError, match=said):
            vector_files.read(path)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(4), torch.tensor([1.0, float("nan")]), torch.ones(2, 2), torch.ones(3, dtype=torch.int64)]
)
def test_what_is_no_direction_is_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    save_file({"layers_input.1": tensor}, tmp_path / "a.safetensors")
    with pytest.raises(DataError):
        vector_files.read(tmp_path / "a.safetensors")


def test_damaged_files_and_files_of_a_store_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(DataError, match="its header claims"):
        vector_files.read(path)
    save_file({"direction": VECTOR}, path, metadata={"refusalctl": '{"format":"refusalctl.selection"}'})
    with pytest.raises(DataError, match="is a file of a store"):
        vector_files.read(path)


def test_of_several_layers_one_must_be_named(tmp_path: Path) -> None:
    save_file({"layers_input.1": VECTOR, "layers_input.2": 2 * VECTOR}, tmp_path / "a.safetensors")
    found = vector_files.read(tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match=r"name one: --layer, of \[1, 2\]"):
        vector_files.one_layer(found, None, "a")
    assert torch.equal(vector_files.one_layer(found, 2, "a")[1], 2 * VECTOR)
