"""Activations with named axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refusalctl.errors import BadInput
from refusalctl.steps.interop.activations import export_activations, labelled
from tests.steps.interop.world import MODEL, activations_store


def test_axes_are_named_by_what_was_recorded(tmp_path: Path) -> None:
    artifact, values = activations_store(tmp_path / "store")
    found = labelled([artifact, artifact], pos=-3, layer=1)
    assert (list(found.positions), list(found.layers)) == ([-3], [1])
    assert np.array_equal(found.values[:3, 0, 0], values[:, 2, 1])
    assert list(found.prompts) == ["p0", "p1", "p2"] * 2
    with pytest.raises(BadInput, match=r"at position -9; positions are \[-2, -1, -3\]"):
        labelled([artifact], pos=-9)
    with pytest.raises(BadInput, match=r"netcdf is called \*\.nc"):
        export_activations([artifact], tmp_path / "a.h5", "netcdf")


def test_activations_of_two_forms_of_a_model_are_not_put_together(tmp_path: Path) -> None:
    (one, _), (other, _) = (activations_store(tmp_path / d, MODEL | {"dtype": d}) for d in ("float32", "bfloat16"))
    assert labelled([one]).about["revision"] == "r1"
    with pytest.raises(BadInput, match="one model in one form"):
        labelled([one, other])


def test_xarray_finds_positions_and_layers_by_number(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    artifact, values = activations_store(tmp_path / "store")
    export_activations([artifact], tmp_path / "a.nc", "netcdf")
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as found:
        assert np.array_equal(found.resid_pre.sel(position=-1, layer=2).values, values[:, 1, 2])


def test_anndata_has_one_observation_per_activation(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    artifact, values = activations_store(tmp_path / "store")
    export_activations([artifact], tmp_path / "a.h5ad", "anndata")
    found = anndata.read_h5ad(tmp_path / "a.h5ad")
    chosen = found[(found.obs.position == -1) & (found.obs.layer == 2)]
    assert np.array_equal(np.asarray(chosen.X), values[:, 1, 2])
