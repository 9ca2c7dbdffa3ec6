"""A model's identity: no change of what is loaded leaves it as it was, and nothing else moves it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.files import digests
from tests.model.files import folders


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REFUSALCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_FRESH", -1)  # files of a test are all new
    return folders.copy(tiny_folder, tmp_path / "model")


def test_a_copy_that_keeps_size_and_time_is_another_model(folder: Path, tmp_path: Path) -> None:
    before = digests.folder_digest(folder)
    file = folder / "model.safetensors"
    stat = file.stat()
    other = tmp_path / "other.safetensors"
    other.write_bytes(file.read_bytes()[:-1] + b"\x01")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    shutil.copy2(other, file)  # as `cp -p` and `rsync -t` do
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    after = digests.folder_digest(folder)
    assert after != before
    content = file.read_bytes()[:-1] + b"\x02"
    with file.open("r+b") as open_file:  # in place, and the time set back
        open_file.write(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests.folder_digest(folder) not in (before, after)


def test_the_file_behind_a_link_counts(folder: Path, tmp_path: Path) -> None:
    """As in the hub's cache."""
    file, blob = folder / "model.safetensors", tmp_path / "blob"
    stat = file.stat()
    file.rename(blob)
    file.symlink_to(blob)
    before = digests.folder_digest(folder)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    os.utime(blob, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests.folder_digest(folder) != before


def test_files_that_nobody_touched_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests.folder_digest(folder)
    monkeypatch.setattr(digests, "_hashed", lambda path: pytest.fail(f"{path} was read again"))
    assert digests.folder_digest(folder) == before


def test_a_file_changed_just_now_is_not_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes within a clock's tick bear one time."""
    monkeypatch.setattr(digests, "_FRESH", 60_000_000_000)
    assert digests._mark(folder / "config.json") is None
    monkeypatch.setattr(digests, "_FRESH", -1)
    assert digests._mark(folder / "config.json") is not None


def test_where_change_times_say_nothing_all_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_keeps_change_time", lambda _device: False)
    assert digests._mark(folder / "config.json") is None


@pytest.mark.parametrize(
    ("kind", "kept"), [("ext4", True), ("nfs4", True), ("overlay", True), ("fuse.sshfs", False), ("vfat", False)]
)
def test_file_systems_that_keep_change_times(monkeypatch: pytest.MonkeyPatch, kind: str, kept: bool) -> None:
    monkeypatch.undo()
    lines = f"36 35 8:3 / /data rw,noatime master:1 - {kind} /dev/x rw\n37 35 9:9 / /other rw - tmpfs t rw\n"
    monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: lines)
    assert digests._keeps_change_time.__wrapped__(os.makedev(8, 3)) is kept
    assert digests._keeps_change_time.__wrapped__(os.makedev(7, 7))  # not known: believed


@pytest.mark.parametrize(
    "name",
    ["generation_config.json", "chat_template.json", "chat_template.jinja", "additional_chat_templates/tool.jinja",
     "modeling.py", "code/inner.py", "vocab.tiktoken", "tokenizer.model"],
)  # fmt: skip
def test_whatever_changes_results_changes_the_identity(folder: Path, name: str) -> None:
    before = digests.folder_digest(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}", encoding="utf-8")
    assert digests.folder_digest(folder) != before


@pytest.mark.parametrize(
    "name", ["consolidated.safetensors", "original/model.safetensors", "README.md", ".git/hook.py", "model.onnx"]
)
def test_what_is_not_loaded_is_no_part_of_it(folder: Path, name: str) -> None:
    before = digests.folder_digest(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    assert digests.folder_digest(folder) == before


def test_a_file_that_changes_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = digests.hashlib.file_digest

    def slow(content: object, kind: str) -> object:
        found = real(content, kind)
        with (folder / "config.json").open("a") as file:
            file.write(" ")
        return found

    monkeypatch.setattr(digests.hashlib, "file_digest", slow)
    with pytest.raises(ModelError, match="changes while it is read"):
        digests.digests([folder / "config.json"])


def test_a_memory_that_cannot_be_kept_is_no_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    monkeypatch.setenv("REFUSALCTL_CACHE", str(tmp_path / "file"))
    assert len(digests.folder_digest(folder)) == 64
