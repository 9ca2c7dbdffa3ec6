"""GGUF control vectors: what llama.cpp's own reader finds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest
import torch

from refusalctl.errors import BadInput, DataError
from refusalctl.interop import control_vector
from refusalctl.interop.direction import PortableDirection
from tests.interop.test_direction import HEADER
from tests.interop.test_vector_files import VECTOR

ADD = msgspec.structs.replace(HEADER, operation="add", act_at=(2, 3))


def test_the_stream_that_enters_a_block_is_the_output_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    control_vector.write(path, PortableDirection(ADD, VECTOR), "qwen2")
    found = {each.name: np.array(each.data) for each in gguf.GGUFReader(path).tensors}
    assert sorted(found) == ["direction.1", "direction.2"]
    assert np.array_equal(found["direction.1"], VECTOR.numpy())
    read = control_vector.read(path)
    assert (sorted(read.vectors), read.model_hint) == ([2, 3], "qwen2")
    assert read.header == msgspec.structs.replace(ADD, layer_map={"direction.1": 2, "direction.2": 3})


def test_what_a_control_vector_cannot_say_is_refused(tmp_path: Path) -> None:
    for header, hint, told in (
        (HEADER, "qwen2", "it cannot say that a direction is ablated"),
        (ADD, None, "names its model's architecture"),
        (msgspec.structs.replace(ADD, act_at=(1,)), "qwen2", "the first is the stream that enters block 2"),
    ):
        with pytest.raises(BadInput, match=told):
            control_vector.write(tmp_path / "a.gguf", PortableDirection(header, VECTOR), hint)
    assert not list(tmp_path.iterdir())


def test_other_gguf_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(DataError, match="cannot be read as GGUF"):
        control_vector.read(path)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("direction.1", torch.ones(4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(DataError, match="should hold a controlvector, found 'llama'"):
        control_vector.read(path)
