"""Whole files, modes, foreign names, and paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refusalctl import disk
from refusalctl.errors import BadInput, FileError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    disk.write_whole(path, b"old")

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        disk.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [
    ".DS_Store", "._manifest.json", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", ".nfs000000001", "lost+found",
    "manifest (1).json", "labels.sync-conflict-20260101-120000-ABC.jsonl", "a (conflicted copy 2026-01-01).json", "x~",
    "@eaDir", ".Trash-1000", "__pycache__", ".labels.jsonl.swp",
])  # fmt: skip
def test_files_of_other_programs_are_known(name: str) -> None:
    assert disk.is_foreign(name)


@pytest.mark.parametrize(
    "name", ["manifest.json", "run.json", "labels", "a" * 64, "activations.h5", "tmp", "report.html"]
)
def test_our_own_files_are_not_foreign(name: str) -> None:
    assert not disk.is_foreign(name)


def test_paths_mean_what_they_mean_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROOM", "big")
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert disk.given_path("~/x", "--store") == tmp_path / "x"
    assert disk.given_path("/disk/${ROOM}/$ROOM", "--store") == Path("/disk/big/big")
    unset, unknown = ("$NOWHERE/x", "not set"), ("~nobody-here/x", "a user")
    for wrong, words in (("", "is empty"), ("  ", "is empty"), unset, unknown, ("a\0b", "null")):
        with pytest.raises(BadInput, match=words):
            disk.given_path(wrong, "--store")
    (tmp_path / "~").mkdir()
    assert disk.given_path("~", "--store") == Path("~")  # it is there, so it is meant


def test_a_file_that_cannot_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    disk.require_space(tmp_path, 1000)
    with pytest.raises(FileError, match="the disk is full"):
        disk.require_space(tmp_path, 10**18)


def test_a_built_folder_is_readable_by_colleagues_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "model"

    def fill(room: Path) -> None:
        (room / "weights").write_bytes(b"w")
        (room / "weights").chmod(0o600)
        (room / "config.json").write_text("{}")

    folder.mkdir(parents=True)  # an interrupted copy
    (folder / "weights").write_bytes(b"half")
    old = os.umask(0o002)
    try:
        disk.build_folder(folder, "config.json", fill, "hint")
    finally:
        os.umask(old)
    assert (folder / "weights").read_bytes() == b"w"
    assert (folder / "weights").stat().st_mode & 0o777 == 0o664
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write to the cache"):
        disk.build_folder(tmp_path / "file" / "model", "config.json", fill, "hint")


def test_what_is_free_is_told_also_for_a_folder_that_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert disk.free_words(tmp_path / "a" / "b") == disk.free_words(tmp_path) != ""
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _place: Usage(12288))
    assert disk.free_words(tmp_path) == " (12,288 bytes are free)"


class Usage:
    def __init__(self, free: int) -> None:
        self.free = free
