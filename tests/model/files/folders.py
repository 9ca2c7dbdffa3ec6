"""Copies of a tiny model's folder with one thing changed, as people bring them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

State = dict[str, Tensor]
Change = Callable[[State], State]


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def with_weights(folder: Path, change: Change) -> Path:
    """The same folder with other tensors in it."""
    file = folder / "model.safetensors"
    state = change(load_file(file))
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, file, metadata={"format": "pt"})
    return folder


def with_json(folder: Path, name: str = "config.json", **settings: Any) -> Path:
    file = folder / name
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(found | settings), encoding="utf-8")
    return folder


def renamed(old: str, new: str) -> Change:
    return lambda state: {name.replace(old, new): tensor for name, tensor in state.items()}


def without(*parts: str) -> Change:
    return lambda state: {n: t for n, t in state.items() if not any(part in n for part in parts)}


def filled(name: str, value: float) -> Change:
    """One number of one tensor replaced."""

    def change(state: State) -> State:
        tensor = state[name].clone()
        tensor.view(-1)[3] = value
        return state | {name: tensor}

    return change


def sharded(folder: Path, *, keep: bool = False) -> dict[str, str]:
    """The weights in two files with an index, whose map is returned."""
    state = load_file(folder / "model.safetensors")
    if not keep:
        (folder / "model.safetensors").unlink()
    names: dict[str, str] = {}
    for i in range(2):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        part = {name: state[name] for name in sorted(state)[i::2]}
        save_file(part, folder / file, metadata={"format": "pt"})
        names |= dict.fromkeys(part, file)
    index(folder, names)
    return names


def index(folder: Path, names: dict[str, str]) -> None:
    text = json.dumps({"metadata": {}, "weight_map": names})
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
