"""Which weights are loaded, and what their headers say: damaged, doubtful and double ones are refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint
from tests.model.files import folders

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return folders.copy(tiny_folder, tmp_path / "model")


def test_headers_say_what_a_checkpoint_holds(folder: Path) -> None:
    whole = checkpoint.read(folder)
    folders.sharded(folder)
    parts = checkpoint.read(folder)
    assert [p.name for p in parts.files] == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert {n: t[:2] for n, t in parts.tensors.items()} == {n: t[:2] for n, t in whole.tensors.items()}
    assert whole.tensors["lm_head.weight"][:2] == ("F32", (260, 32))


def test_a_shard_that_the_index_names_and_that_is_not_there(folder: Path) -> None:
    folders.sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names 1 files that are not there \(model-00002-of-00002\.safetensors\)"):
        checkpoint.read(folder)


def test_a_shard_that_the_index_does_not_name(folder: Path) -> None:
    folders.sharded(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00003-of-00003.safetensors")
    with pytest.raises(ModelError, match=r"does not name \(model-00003-of-00003\.safetensors\)"):
        checkpoint.read(folder)


def test_an_index_that_names_a_tensor_nobody_holds(folder: Path) -> None:
    folders.index(folder, folders.sharded(folder) | {"model.lost": "model-00001-of-00002.safetensors"})
    with pytest.raises(ModelError, match=r"names 1 tensors that no file holds \(model\.lost\)"):
        checkpoint.read(folder)


def test_a_tensor_in_two_shards(folder: Path) -> None:
    folders.index(folder, folders.sharded(folder) | {"twice": "again.safetensors"})
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "again.safetensors")
    with pytest.raises(ModelError, match="hold the same tensors"):
        checkpoint.read(folder)


@pytest.mark.parametrize("names", [{}, {"lm_head.weight": "../other.safetensors"}])
def test_an_index_of_no_files_or_of_files_elsewhere(folder: Path, names: dict[str, str]) -> None:
    folders.sharded(folder)
    folders.index(folder, names)
    with pytest.raises(ModelError, match="expected the names of files in this folder"):
        checkpoint.read(folder)


def test_shards_without_their_index(folder: Path) -> None:
    folders.sharded(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match=r"but no model\.safetensors\.index\.json"):
        checkpoint.read(folder)


def test_two_copies_of_the_weights_are_one_model_only_while_they_are_the_same(folder: Path) -> None:
    folders.sharded(folder, keep=True)
    assert [p.name for p in checkpoint.read(folder).files] == ["model.safetensors"]
    folders.with_weights(folder, folders.filled("lm_head.weight", 9.0))
    with pytest.raises(ModelError, match=r"holds two models.* differ in 1 tensors \(lm_head\.weight\)"):
        checkpoint.read(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [("m.Q4.gguf", "GGUF"), ("pytorch_model.bin", r"\.bin"), ("consolidated.safetensors", "maker's own format"),
     ("model.fp16.safetensors", "of other names"), ("tf_model.h5", "TensorFlow"), ("README.md", "no weights")],
)  # fmt: skip
def test_weights_of_another_format_are_named(folder: Path, name: str, words: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelError, match=words):
        checkpoint.read(folder)


def test_pickled_weights_only_where_they_will_do(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert checkpoint.weights_files(folder, pickled=True) == [folder / "model.safetensors"]
    (folder / "model.safetensors").unlink()
    assert checkpoint.read(folder, pickled=True).files == (folder / "pytorch_model.bin",)


def test_weights_that_the_settings_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    folders.with_json(folder, transformers_weights="mine.safetensors")
    assert checkpoint.weights_files(folder) == [folder / "mine.safetensors"]
    folders.with_json(folder, transformers_weights="gone.safetensors")
    with pytest.raises(ModelError, match=r"gone\.safetensors, which are not there"):
        checkpoint.weights_files(folder)


@pytest.mark.parametrize(
    ("kept", "words"), [(-7, "bytes are there, its header says"), (100, "cut off or no safetensors"), (0, "cut off")]
)
def test_a_file_that_is_cut_off(folder: Path, kept: int, words: str) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: kept or None] if kept else b"")
    with pytest.raises(ModelError, match=words):
        checkpoint.header(file)


@pytest.mark.parametrize("content", [b"\x08" + b"\0" * 7 + b"[1,2,3]x", b"\x0d" + b"\0" * 7 + b'{"a":{"b":1}}'])
def test_a_header_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="is no safetensors file"):
        checkpoint.header(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs(folder: Path, name: str) -> None:
    (folder / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(ModelError, match=rf"{name} is a git-lfs pointer") as raised:
        checkpoint.check_small_files(folder)
        checkpoint.read(folder)
    assert "git lfs pull" in str(raised.value.hint)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_damaged_settings_are_named(folder: Path, name: str) -> None:
    (folder / name).write_text('{"a": ', encoding="utf-8")
    with pytest.raises(ModelError, match=rf"{name} is damaged: it is no JSON"):
        checkpoint.check_small_files(folder)


def test_a_long_list_of_names_is_cut() -> None:
    assert checkpoint.some(["c", "a", "b", "d"], 2) == "a, b and 2 more"
    assert checkpoint.some(["a"]) == "a"
