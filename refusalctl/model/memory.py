"""Devices of this machine with their memory, and what a model's weights need."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import psutil
import torch

from refusalctl.disk import gigabytes
from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint, quantisation
from refusalctl.model.files.resolve import ModelRef

ROOM = 1.2  # times the weights: activations, caches and what libraries keep; batches shrink to what is left
_KEPT = re.compile(r"(^|[._])(embed\w*|wte|wpe|lm_head|output_layer)([._]|$)")


class Device(NamedTuple):
    """Bytes; `free`: what could be had now."""

    name: str
    kind: str
    total: int
    free: int


def devices() -> list[Device]:
    """Accelerators, then the processor."""
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        found.append(Device(f"cuda:{index} {torch.cuda.get_device_name(index)}", "cuda", total, free))
    memory = psutil.virtual_memory()
    if torch.backends.mps.is_available():  # it shares the processor's
        found.append(Device("mps", "mps", memory.total, memory.available))
    return [*found, Device(f"cpu, {torch.get_num_threads()} threads", "cpu", memory.total, memory.available)]


def weights_bytes(ref: ModelRef, dtype: str, device: str = "cpu") -> int | None:
    """Bytes of a model's weights in memory, by the headers of its files; None where these are not here, or say nothing.

    Of quantised weights, as they are stored; of those that are quantised while they are loaded, with their scales, and
    with what stays as it is in the dtype of the `device`.
    """
    base = ref if ref.base is None else ref.base
    try:
        stored = checkpoint.read(base.folder)
    except ModelError:
        return None
    if not stored.tensors:
        return None
    if dtype in quantisation.BITS:
        plain = 4 if device == "cpu" else 2
        return sum(_quantised_bytes(name, each.shape, dtype, plain) for name, each in stored.tensors.items())
    size = torch.finfo(getattr(torch, dtype)).bits // 8
    if ref.quantization is not None:
        return sum(file.stat().st_size for file in stored.files)
    return stored.parameters() * size


def _quantised_bytes(name: str, shape: tuple[int, ...], dtype: str, plain: int) -> int:
    """bitsandbytes takes linear layers, without the output layer: nf4 has a float32 scale per 64 weights, int8 one per
    row."""
    numel = math.prod(shape)
    if len(shape) != 2 or _KEPT.search(name):
        return numel * plain
    scales = -(-numel // 64) if dtype == "nf4" else shape[0]
    return -(-numel * quantisation.BITS[dtype] // 8) + 4 * scales


def target(device: str, there: Sequence[Device]) -> Device:
    """Where `--device` would put weights: one device, or all accelerators together for `shard`, which fills one after
    the other and leaves what does not fit to the processor. `device` is `auto`'s choice, or what was asked for."""
    kind, _, index = device.partition(":")
    if kind == "shard":
        parts = [each for each in there if each.kind != "mps"]  # it shares the processor's memory
        name = " and ".join(each.name for each in parts)
        return Device(name, "shard", sum(each.total for each in parts), sum(each.free for each in parts))
    fitting = [each for each in there if each.kind == kind] or [there[-1]]
    return fitting[int(index)] if index.isdigit() and int(index) < len(fitting) else fitting[0]


def verdict(needed: int | None, device: Device, dtype: str) -> tuple[bool, str]:
    """Whether weights fit into what is free, in words. Unknown is no problem, and says so."""
    there = f"{gigabytes(device.free)} of {gigabytes(device.total)} free on {device.name}"
    if needed is None:
        return True, f"the weights are not here yet, what they need is not known; {there}"
    with_room = f"{gigabytes(round(needed * ROOM))} with room to compute ({ROOM:g} times the weights)"
    told = f"weights need {gigabytes(needed)} in {dtype}, {with_room}; {there}"
    if needed * ROOM <= device.free:
        return True, told
    others = "" if device.kind == "shard" else "use --device shard, "
    return False, f"{told}: too little; free some, {others}--dtype bfloat16, or a smaller or quantised model"
