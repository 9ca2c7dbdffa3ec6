"""Directions as safetensors, under the names of this tool, TransformerLens, nnterp or steering-vectors.

One tensor [d_model] float32 per layer, and one metadata entry: safetensors with two already change their bytes between
runs. Nothing is ever pickled. steering-vectors itself has no format of files: its users pickle `SteeringVector`; here
`layer_activations` is kept instead, by block, for the layer type `decoder_block`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from refusalctl.disk import write_whole
from refusalctl.errors import BadInput, DataError
from refusalctl.file_errors import explained
from refusalctl.interop.direction import ENTRY, FORMAT, DirectionHeader, FoundVectors, PortableDirection, read_header
from refusalctl.interop.layer_names import Convention, layers_of
from refusalctl.untrusted import DOCUMENT, LARGE

if TYPE_CHECKING:
    import torch

_FLOATS = ("F64", "F32", "F16", "BF16")


def laid_out(direction: PortableDirection, convention: Convention) -> tuple[PortableDirection, dict[str, torch.Tensor]]:
    """The vector under each name that it has in this convention, and the header that says which layer that is."""
    layers = direction.header.act_at or (direction.header.layer,)
    names = {convention.name(layer): layer for layer in layers}
    header = msgspec.structs.replace(direction.header, layer_map=names)
    tensors = {name: direction.vector.float().contiguous().clone() for name in names}
    return PortableDirection(header, direction.vector), tensors


def write(path: Path, direction: PortableDirection, convention: Convention) -> None:
    """Write one file, whole or not at all. Raises `BadInput` for a layer that the convention cannot name."""
    from safetensors.torch import save

    told, tensors = laid_out(direction, convention)
    entry = json.dumps(told.header.to_json(), sort_keys=True, separators=(",", ":"))
    with explained("write", path):
        write_whole(path, save(tensors, metadata={ENTRY: entry}))


def read(path: Path) -> FoundVectors:
    """Vectors by layer. Raises `DataError` for another file, names of no known tool, shapes that are no directions."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as content:
            head = int.from_bytes(content.read(8), "little")
        size = path.stat().st_size
        if size > LARGE or head > min(size, DOCUMENT):
            raise DataError(f"{path.name} is no safetensors file of directions (its header claims {head:,} bytes)")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            odd = [n for n in names if file.get_slice(n).get_dtype() not in _FLOATS]
            if odd:
                raise DataError(f"{path.name} should hold floating-point tensors, found {len(odd)} others")
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read as safetensors ({type(error).__name__})") from error
    told = metadata.get(ENTRY, "")
    if ENTRY in metadata and FORMAT not in told:
        raise DataError(
            f"{path.name} is a file of a store, expected an exported direction",
            hint="`refusalctl artifacts export FILE REF --format safetensors` writes one",
        )
    format_, by_layer = layers_of(names, path.name)
    vectors = {layer: checked(tensors[name], path.name) for layer, name in by_layer.items()}
    header = read_header(told, path.name) if told else None
    return FoundVectors(format_, fitting(vectors, path.name, header, by_layer), header)


def checked(found: torch.Tensor, where: str) -> torch.Tensor:
    """One direction [d_model] as float32. Raises `DataError` for another shape, NaN, infinity, or zero."""
    if found.ndim != 1 or not found.numel():
        raise DataError(f"{where} holds a tensor of shape {list(found.shape)}, expected a direction [d_model]")
    if not found.isfinite().all() or not found.any():
        raise DataError(f"{where} holds NaN, infinity, or zeros alone, which is no direction")
    return found.float().contiguous().clone()


def fitting(
    vectors: dict[int, torch.Tensor], where: str, header: DirectionHeader | None, by_layer: dict[int, str]
) -> dict[int, torch.Tensor]:
    """The vectors, unless they differ in width or contradict the header (`DataError`)."""
    import torch

    widths = {vector.shape[0] for vector in vectors.values()}
    if len(widths) != 1:
        raise DataError(f"{where} holds directions of {len(widths)} widths, expected one")
    if header is not None:
        expected = {layer: name for name, layer in header.layer_map.items()}
        if header.d_model not in widths:
            raise DataError(f"{where}: its header says width {header.d_model}, found {widths.pop()}")
        if expected != by_layer:
            raise DataError(
                f"{where}: its header says layers {sorted(expected)}, its tensors say {sorted(by_layer)}",
                hint="it was changed after it was written: export it again",
            )
        if {*by_layer} != {*(header.act_at or (header.layer,))}:
            raise DataError(f"{where}: its header acts at {list(header.act_at)}, its tensors are of {sorted(by_layer)}")
        if any(not torch.equal(v, next(iter(vectors.values()))) for v in vectors.values()):
            raise DataError(f"{where}: its header is of one direction, its tensors are different ones")
        wrong = [v for v in vectors.values() if not abs(float(v.norm()) - header.length) <= 1e-3 * header.length]
        if wrong:
            raise DataError(f"{where}: its header says length {header.length:g}, found {float(wrong[0].norm()):g}")
    return vectors


def one_layer(found: FoundVectors, layer: int | None, where: str) -> tuple[int, torch.Tensor]:
    """The vector that is meant. Raises `BadInput` where several are there and none is named."""
    there = sorted(found.vectors)
    if layer is None and len(there) == 1:
        layer = there[0]
    if layer is None:
        raise BadInput(f"{where} holds directions of {len(there)} layers", hint=f"name one: --layer, of {there}")
    if layer not in found.vectors:
        raise BadInput(f"{where} holds no direction for the stream that enters block {layer}", hint=f"it has {there}")
    return layer, found.vectors[layer]
