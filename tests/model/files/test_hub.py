"""Of a hub repository only what is loaded is fetched, and the cache must still hold it. No hub is asked."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.files import digests, hub

COMMIT = "c" * 40
SMALL = {"config.json": "{}", "tokenizer.json": "{ }", "tokenizer_config.json": "{}", "chat_template.jinja": "x"}


class Hub:
    """A repository in memory behind huggingface_hub's border; what was fetched of it is kept."""

    def __init__(self, home: Path, files: dict[str, str]) -> None:
        self.files, self.fetched = files, set[str]()
        self.folder, self.blobs = home / "snapshots" / COMMIT, home / "blobs"

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str],
                          ignore_patterns: list[str] | None) -> str:  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        self.blobs.mkdir(exist_ok=True)
        for path, text in self.files.items():
            wanted = any(fnmatch.fnmatch(path, p) for p in allow_patterns)
            if wanted and not any(fnmatch.fnmatch(path, p) for p in ignore_patterns or ()):
                self._put(path, text.encode())
        return str(self.folder)

    def _put(self, path: str, content: bytes) -> None:
        self.fetched.add(path)
        large = path.endswith(("safetensors", "bin"))
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        blob = self.blobs / (hashlib.sha256(content).hexdigest() if large else git)
        target = self.folder / path
        if not target.exists():
            blob.write_bytes(content)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(blob)

    def weights(self) -> set[str]:
        return {p for p in self.fetched if p.endswith((".safetensors", ".bin", ".pth"))}


def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str, **texts: str) -> Hub:
    import huggingface_hub

    made = Hub(tmp_path / "hub", SMALL | dict.fromkeys(names, "weights") | texts)
    monkeypatch.setenv("REFUSALCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_FRESH", -1)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_a, **_k: list(made.files))
    return made


def map_of(*files: str) -> str:
    return json.dumps({"weight_map": {f"t{i}": file for i, file in enumerate(files)}})


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def test_of_several_copies_only_the_one_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = ("original/consolidated.00.pth", "original/model.safetensors", "consolidated.safetensors",
              "model.fp16.safetensors", "model.fp16-00001-of-00002.safetensors", "pytorch_model.bin", "onnx/model.onnx",
              "checkpoint-100/model.safetensors", "adapter_model.safetensors", "original/params.json",
              "1_Pooling/config.json")  # fmt: skip
    made = opened(tmp_path, monkeypatch, *SHARDS, *beside, **{"model.safetensors.index.json": map_of(*SHARDS)})
    hub.fetch("org/model", None, small=True)
    assert not made.weights()
    assert not {p for p in made.fetched if "/" in p}
    folder = hub.fetch("org/model", None)
    assert folder.name == COMMIT
    assert made.weights() == set(SHARDS)


def test_one_file_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(tmp_path, monkeypatch, "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", *SHARDS)
    hub.fetch("org/model", None)
    assert made.weights() == {"model.safetensors"}


def test_the_file_that_the_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"config.json": json.dumps({"transformers_weights": "mine.safetensors"})}
    made = opened(tmp_path, monkeypatch, "model.safetensors", "mine.safetensors", **texts)
    hub.fetch("org/model", None)
    assert made.weights() == {"mine.safetensors"}


def test_templates_and_code_of_subfolders_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(tmp_path, monkeypatch, "additional_chat_templates/tool.jinja", "code/inner.py", ".github/x.json")
    hub.fetch("org/model", None, small=True)
    assert made.fetched == {*SMALL, "additional_chat_templates/tool.jinja", "code/inner.py"}


def test_an_adapter_comes_with_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(tmp_path, monkeypatch, "adapter_model.safetensors", "optimizer.bin", **{"adapter_config.json": "{}"})
    del made.files["config.json"]
    hub.fetch("org/adapter", None)
    assert made.weights() == {"adapter_model.safetensors"}


@pytest.mark.parametrize(
    ("name", "words"), [("pytorch_model.bin", r"pickled weights \(\.bin\)"), ("m.Q4_K_M.gguf", "GGUF files"),
                        ("consolidated.safetensors", "maker's own format")]
)  # fmt: skip
def test_a_repository_without_safetensors_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    opened(tmp_path, monkeypatch, name)
    folder = hub.fetch("org/model", None, small=True)
    for refuse in (lambda: hub.check_listing("org/model", folder), lambda: hub.fetch("org/model", None)):
        with pytest.raises(ModelError, match=words) as raised:
            refuse()
        assert "convert it" in str(raised.value.hint)


def test_pickled_weights_of_translators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(tmp_path, monkeypatch, "pytorch_model.bin", "rust_model.ot")
    assert (hub.fetch("org/model", None, pickled=True) / "pytorch_model.bin").is_file()
    made.files["model.safetensors"] = "weights"
    made.fetched.clear()
    hub.fetch("org/model", None, pickled=True)
    assert made.weights() == {"model.safetensors"}


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_was_changed_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    opened(tmp_path, monkeypatch, "model.safetensors")
    folder = hub.fetch("org/model", None)
    (folder / file).resolve().write_bytes(b"another")  # the commit would still be the same
    with pytest.raises(ModelError, match=rf"{file} is not the file that the hub has") as raised:
        hub.fetch("org/model", None)
    assert "--force-download" in str(raised.value.hint)


def test_a_file_put_in_place_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path, monkeypatch, "model.safetensors")
    folder = hub.fetch("org/model", None)
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.jinja").write_text("mine", encoding="utf-8")
    with pytest.raises(ModelError, match=r"chat_template\.jinja is not the file"):
        hub.fetch("org/model", None, small=True)


@pytest.mark.parametrize(
    ("thrown", "words"), [(OSError(28, "No space left on device"), "No space left"), (RuntimeError("Bad data"), "Bad")]
)
def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch, thrown: Exception, words: str) -> None:
    import huggingface_hub

    def fail(*_a: Any, **_k: Any) -> str:
        raise thrown

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=words) as raised:
        hub.fetch("org/model", None)
    assert raised.value.__cause__ is thrown
