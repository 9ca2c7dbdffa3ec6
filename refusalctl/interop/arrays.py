"""Activations for xarray (netCDF, zarr) and anndata, with the prompts, positions and layers on their axes.

Values are `resid_pre`, float32: the stream that enters each block. Positions are negative, from the prompt's end; the
last one recorded is the last instruction token.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refusalctl.disk import whole
from refusalctl.errors import BadInput
from refusalctl.file_errors import explained
from refusalctl.json_types import JsonObject

ArrayForm = Literal["netcdf", "zarr", "anndata"]
ARRAY_FORMS: tuple[ArrayForm, ...] = ("netcdf", "zarr", "anndata")
SUFFIXES = {"netcdf": (".nc",), "zarr": (".zarr",), "anndata": (".h5ad",)}


@dataclass(frozen=True, eq=False)
class LabelledStream:
    """`values` [n_prompts, n_pos, n_layers, d_model] with the names of its axes.

    `langs` and `kinds` are those of each prompt, `layers` and `positions` those of the axes; `about` is JSON beside it.
    """

    values: NDArray[np.float32]
    prompts: Sequence[str]
    langs: Sequence[str]
    kinds: Sequence[str]
    positions: Sequence[int]
    layers: Sequence[int]
    about: JsonObject

    def at(self, pos: int | None, layer: int | None) -> LabelledStream:
        """The part at one position or layer. Raises `BadInput` for one that was not recorded."""
        values, positions, layers = self.values, list(self.positions), list(self.layers)
        if pos is not None:
            place = _place(pos, positions, "position")
            values, positions = values[:, place : place + 1], [pos]
        if layer is not None:
            place = _place(layer, layers, "layer")
            values, layers = values[:, :, place : place + 1], [layer]
        return LabelledStream(values, self.prompts, self.langs, self.kinds, positions, layers, self.about)


def _place(wanted: int, known: list[int], what: str) -> int:
    if wanted not in known:
        raise BadInput(f"no activations were recorded at {what} {wanted}", hint=f"{what}s are {known}")
    return known.index(wanted)


def write(path: Path, stream: LabelledStream, form: ArrayForm) -> None:
    """Write one file (netCDF, anndata) or folder (zarr). Raises `BadInput` where the library is not installed."""
    if path.suffix not in SUFFIXES[form]:
        raise BadInput(f"{form} is called *{SUFFIXES[form][0]}, found {path.name}")
    if form == "zarr":
        with explained("write", path):
            _zarr(path, stream)
        return
    with explained("write", path), whole(path) as draft:
        (_netcdf if form == "netcdf" else _anndata)(draft, stream)


def dataset(stream: LabelledStream) -> Any:
    """An `xarray.Dataset` with `resid_pre` [prompt, position, layer, d_model] and its coordinates."""
    xarray = _needed("xarray", "xarray")
    coordinates = {
        "prompt": ("prompt", np.array(list(stream.prompts), dtype=object)),
        "lang": ("prompt", np.array(list(stream.langs), dtype=object)),
        "kind": ("prompt", np.array(list(stream.kinds), dtype=object)),
        "position": ("position", np.array(stream.positions, dtype=np.int64)),
        "layer": ("layer", np.array(stream.layers, dtype=np.int64)),
    }
    held = {"resid_pre": (("prompt", "position", "layer", "d_model"), stream.values)}
    return xarray.Dataset(held, coordinates, {"refusalctl": _told(stream)})


def _netcdf(path: Path, stream: LabelledStream) -> None:
    _needed("h5netcdf", "xarray")
    dataset(stream).to_netcdf(path, engine="h5netcdf")


def _zarr(path: Path, stream: LabelledStream) -> None:
    _needed("zarr", "xarray")
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        dataset(stream).to_zarr(draft, mode="w", consolidated=False)
        shutil.rmtree(path, ignore_errors=True)
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _anndata(path: Path, stream: LabelledStream) -> None:
    """One observation per prompt, position and layer; `X` is [observations, d_model]."""
    anndata = _needed("anndata", "anndata")
    import pandas as pd

    n, n_pos, n_layers, d_model = stream.values.shape
    row, pos, layer = (each.reshape(-1) for each in np.indices((n, n_pos, n_layers)))
    observed = pd.DataFrame(
        {
            "prompt": np.array(list(stream.prompts), dtype=object)[row],
            "lang": np.array(list(stream.langs), dtype=object)[row],
            "kind": np.array(list(stream.kinds), dtype=object)[row],
            "position": np.array(stream.positions)[pos],
            "layer": np.array(stream.layers)[layer],
        }
    )
    observed.index = [f"{i}" for i in range(len(observed))]
    variables = pd.DataFrame(index=[f"d{i}" for i in range(d_model)])
    values = np.ascontiguousarray(stream.values).reshape(-1, d_model)
    anndata.AnnData(X=values, obs=observed, var=variables, uns={"refusalctl": _told(stream)}).write_h5ad(path)


def _told(stream: LabelledStream) -> str:
    return json.dumps(stream.about, ensure_ascii=False, sort_keys=True)


def _needed(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadInput(f"this format needs {module}", hint=f"pip install 'refusalctl[{extra}]'") from error
