"""HDF5 that is whole and hostile: other files, unfolding blocks, types of any length. None is read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.torture import hostile_files
from refusalctl.errors import Corrupt
from refusalctl.store import formats


@pytest.mark.parametrize("kind", sorted(hostile_files._HDF5))
def test_only_what_this_tool_writes_is_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "activations.h5"
    monkeypatch.setattr(hostile_files, "_HDF5", {kind: hostile_files._HDF5[kind]})
    hostile_files.hdf5(path, random.Random(0), "v108")
    for read in (formats.map_activations, lambda p: list(formats.activation_batches(p, 1))):
        with pytest.raises(Corrupt):
            read(path)


def test_headers_without_checksums_and_links_are_not_read(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "old.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs["refusalctl"] = hostile_files.HEADER
        file.create_dataset("resid_pre", data=[[[[1.0]]]], dtype="f4")
    with pytest.raises(Corrupt, match="do not begin as a file of activations does"):
        formats.map_activations(path)
    (tmp_path / "link.h5").symlink_to(path)
    with pytest.raises(Corrupt, match="symbolic link"):
        formats.map_activations(tmp_path / "link.h5")
