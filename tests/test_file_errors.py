"""What the operating system and libraries say about files becomes one line; what is a bug stays one."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import h5py
import pytest
import torch
from safetensors.torch import load_file, save_file

from refusalctl.errors import FileError, StoreError
from refusalctl.file_errors import explain, explained, printable, reading, what_is_there

MORE = (
    "EACCES",
    "EPERM",
    "ENAMETOOLONG",
    "ENOENT",
    "ENOTDIR",
    "EEXIST",
    "EISDIR",
    "ENOTEMPTY",
    "ELOOP",
    "ETXTBSY",
    "EBUSY",
    "EBADF",
    "ENOTSUP",
    "EXDEV",
    "EINVAL",
    "ENXIO",
    "ENODEV",
)
ALONE = {"ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "ESTALE", "ENOLCK", "EMFILE", "ENFILE", "ENOMEM"}


@pytest.mark.parametrize("name", [*sorted(ALONE), *MORE])
def test_the_operating_systems_reasons_name_the_file_and_what_to_do(name: str) -> None:
    code = getattr(errno, name)
    told = explain(OSError(code, "x", "some/file"))
    assert told is not None
    assert told.message.startswith("cannot read or write some/file: ")
    assert told.hint
    assert (explain(OSError(code, "x")) is not None) is (name in ALONE)


@pytest.mark.parametrize(
    "error",
    [
        TypeError("a bug"),
        OSError("no number and no file"),
        KeyError("a bug"),
        RuntimeError("a bug"),
        ValueError("a bug"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        json.JSONDecodeError("x", "", 0),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "x"),
    ],
    ids=repr,
)
def test_a_bug_is_not_explained_away(error: Exception) -> None:
    assert explain(error) is None
    with pytest.raises(type(error)), explained("write", "here"):
        raise error


def test_a_system_error_of_no_file_may_be_a_bug() -> None:
    assert explain(FileNotFoundError(errno.ENOENT, "of no file")) is None


def hdf5(path: Path, keep: float) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = list(range(5000))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with h5py.File(path, "r") as file:
        file["x"][:]


def missing(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with h5py.File(path, "r") as file:
        file["y"]


def tensors(path: Path) -> None:
    save_file({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:150])
    load_file(path)


DAMAGE = {
    "hdf5 cut short": lambda path: hdf5(path, 0.5),
    "hdf5 header only": lambda path: hdf5(path, 0.01),
    "hdf5 without the data set": missing,
    "safetensors cut short": tensors,
    "json": lambda path: (path.write_bytes(b'{"a": '), json.loads(path.read_bytes())),
    "not utf-8": lambda path: (path.write_bytes(b"\xff\xfe"), path.read_text(encoding="utf-8")),
    "a torch file that is none": lambda path: (path.write_bytes(b"PK\x03\x04 x"), torch.load(path, weights_only=True)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "file"
    assert callable(damage)
    with pytest.raises(StoreError, match="file cannot be read") as caught, reading(path, kind=StoreError):
        damage(path)
    assert caught.value.hint
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer"),
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page"),
    ],
)
def test_what_stands_in_for_a_file_is_told(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match=what), reading(path):
        load_file(path)


def test_reasons_that_libraries_hide_in_their_text_are_found() -> None:
    from safetensors import SafetensorError

    hdf5 = OSError("Can't write data (file write failed: filename = 'x', errno = 28, error message = 'No space left')")
    rust = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    for error in (hdf5, rust):
        told = explain(error, doing="write", path="activations.h5")
        assert told is not None
        assert told.message == "cannot write activations.h5: the disk is full"


def test_a_real_refusal_of_the_operating_system_keeps_its_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="a file stands where a folder is needed") as caught:  # noqa: SIM117
        with explained("write", tmp_path):
            (tmp_path / "file" / "below").mkdir()
    assert isinstance(caught.value.__cause__, NotADirectoryError)
    with pytest.raises(FileError, match="the name is too long"), explained("write", tmp_path):
        (tmp_path / ("x" * 300)).write_text("")


def test_names_from_outside_stay_on_one_line() -> None:
    assert printable("a\nb\x1b[31m\udcff й") == "a\\nb\\x1b[31m\\udcff й"


def test_a_pipe_where_a_file_belongs_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    assert what_is_there(tmp_path / "rows.jsonl") is None
