"""Safetensors as this tool writes them: floating-point tensors whose axes are those of their kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusalctl.errors import Corrupt
from refusalctl.untrusted import DOCUMENT, Refused, ordinary, parse_object

if TYPE_CHECKING:
    import torch

FLOATS = ("F64", "F32", "F16", "BF16")
MOST_AXES, LONGEST_AXIS = 4, 1 << 31
AXES = {
    "directions": {"candidates": 3, "mean_harmless": 3, "split_half": 2},  # [n_pos, n_layers, d_model]
    "selection": {"direction": 1, "mean_harmless": 1},
    "subspace": {"basis": 2},
}  # of tensors by name, by artifact kind; others there may have any


def read(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors by name, and what the header says, unchecked. Raises `ValueError` for what this tool does not write,
    `SafetensorError` where the file is damaged: offsets beyond its end, tensors that overlap."""
    from safetensors import safe_open

    size = ordinary(path)
    with path.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
    if size > 8 and length > DOCUMENT:
        raise Refused(f"its header has {length:,} bytes, at most {DOCUMENT:,} are read")
    with safe_open(path, framework="pt") as content:
        header = parse_object((content.metadata() or {}).get("refusalctl", "{}"))
        names = list(content.keys())
        for name in names:
            about = content.get_slice(name)
            shape = about.get_shape()
            if about.get_dtype() not in FLOATS or len(shape) > MOST_AXES or max(shape, default=1) > LONGEST_AXIS:
                raise Refused(f"one of its {len(names)} tensors is of a type that is never written ({kind})")
        return {name: content.get_tensor(name) for name in names}, header


def check_shapes(tensors: dict[str, torch.Tensor], kind: str, name: str) -> None:
    """Raise `Corrupt` for a tensor with other axes than its name means, or of another size than its neighbours."""
    known = {each: tensors[each] for each in AXES.get(kind, {}) if each in tensors}
    wrong = [each for each, tensor in known.items() if tensor.ndim != AXES[kind][each] or not tensor.numel()]
    if not wrong and kind == "directions" and "candidates" in known:
        whole = known["candidates"].shape
        wrong = [each for each, tensor in known.items() if tensor.shape != whole[: tensor.ndim]]
    if not wrong and kind == "selection":
        wrong = list(known) if len({tensor.shape for tensor in known.values()}) > 1 else []
    if wrong:
        shape = list(tensors[wrong[0]].shape)
        raise Corrupt(f"{name}: its {wrong[0]!r} has the shape {shape}, which makes no sense", hint="make it again")
