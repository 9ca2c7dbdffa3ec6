"""GGUF control vectors, as llama.cpp (`--control-vector`) and repeng read and write them.

`direction.N` is added to the output of block N, which is the stream that enters block N + 1; llama.cpp refuses
`direction.0`. The file can say nothing but addition: an ablation is refused. Its strength is chosen where it is used
(`--control-vector-scaled FILE:STRENGTH`), so vectors are written as they were read, and the coefficient stands in the
header.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusalctl.disk import whole
from refusalctl.errors import BadInput, DataError
from refusalctl.file_errors import explained
from refusalctl.interop.direction import ENTRY, FoundVectors, PortableDirection, read_header
from refusalctl.interop.layer_names import GGUF, layers_of
from refusalctl.interop.vector_files import checked, fitting, laid_out
from refusalctl.untrusted import LARGE

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "controlvector"


def write(path: Path, direction: PortableDirection, model_hint: str | None) -> None:
    """Write one file, whole or not at all. `model_hint`: the architecture's name in llama.cpp, such as `qwen2`.

    Raises `BadInput` for an ablation, an untold architecture, or a layer that llama.cpp cannot reach.
    """
    import gguf

    if direction.header.operation != "add":
        raise BadInput(
            "a GGUF control vector is added; it cannot say that a direction is ablated",
            hint="--operation add, or --format safetensors for an ablation",
        )
    if not model_hint:
        raise BadInput(
            "a GGUF control vector names its model's architecture (controlvector.model_hint), found none",
            hint="give --model-hint, such as llama, qwen2 or gemma2, or --model",
        )
    told, tensors = laid_out(direction, GGUF)
    with explained("write", path), whole(path) as draft:
        writer = gguf.GGUFWriter(draft, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(tensors))
        writer.add_string(ENTRY, json.dumps(told.header.to_json(), sort_keys=True, separators=(",", ":")))
        for name in sorted(tensors):
            writer.add_tensor(name, tensors[name].numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read(path: Path) -> FoundVectors:
    """Vectors by our layer. Raises `DataError` for a file that is no control vector."""
    import gguf

    if path.stat().st_size > LARGE:
        raise DataError(f"{path.name} is longer than a control vector can be")
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: _text(reader.get_field(name)) for name in _NAMES}
        held = {each.name: (each.tensor_type.name, each.data) for each in reader.tensors}
    except Exception as error:  # the reader fails in any way on a damaged file
        raise DataError(f"{path.name} cannot be read as GGUF ({type(error).__name__})") from error
    if fields["general.architecture"] != ARCHITECTURE:
        what = (fields["general.architecture"] or "nothing")[:40]
        raise DataError(f"{path.name} should hold a {ARCHITECTURE}, found {what!r}")
    format_, by_layer = layers_of(held, path.name)
    if format_ != GGUF.format:
        raise DataError(f"{path.name} should hold tensors called direction.N, found names of {format_}")
    vectors = {layer: _vector(held[name], path.name) for layer, name in by_layer.items()}
    told = fields[ENTRY]
    header = read_header(told, path.name) if told else None
    hint = fields[f"{ARCHITECTURE}.model_hint"]
    return FoundVectors(format_, fitting(vectors, path.name, header, by_layer), header, hint)


_NAMES = ("general.architecture", f"{ARCHITECTURE}.model_hint", ENTRY)


def _text(field: Any) -> str | None:
    return None if field is None else bytes(field.parts[field.data[0]]).decode("utf-8")


def _vector(found: tuple[str, Any], where: str) -> torch.Tensor:
    import numpy as np
    import torch

    if found[0] not in ("F32", "F16", "F64"):
        raise DataError(f"{where} holds a tensor of type {found[0]}, expected F32")
    return checked(torch.from_numpy(np.array(found[1])), where)
