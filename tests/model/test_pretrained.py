"""Opening any model: the class that knows it, its quantisation, its room in memory, its tokenizer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from refusalctl.errors import ModelError
from refusalctl.model import pretrained
from refusalctl.model.load_errors import loading
from refusalctl.model.pretrained import META, Wanted, check_vocabulary, open_tokenizer, open_weights
from tests import tiny
from tests.model.files import folders

BLOCK = 16
TORCHAO = {"_type": "Int8WeightOnlyConfig", "_data": {}, "_version": 1}
FP8 = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic"}


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return folders.copy(tiny_folder, tmp_path / "model")


def opened(folder: Path, device: str = "cpu", auto: str = "AutoModelForCausalLM") -> pretrained.Opened:
    return open_weights(folder, "model", Wanted((auto,), device, "float32"))


def in_eight_bits(folder: Path) -> dict[str, torch.Tensor]:
    """The checkpoint as DeepSeek's makers write it; the weights that it stands for are returned."""
    stored, meant = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        stored[name] = meant[name] = weight
        if "proj" in name:
            rows, columns = (n // BLOCK for n in weight.shape)
            blocks = weight.view(rows, BLOCK, columns, BLOCK)
            scale = blocks.abs().amax((1, 3)) / 448
            packed = (blocks / scale[:, None, :, None]).view(weight.shape).to(torch.float8_e4m3fn)
            stored |= {name: packed, f"{name}_scale_inv": scale}
            meant[name] = packed.float() * scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    folders.with_json(folder, quantization_config=FP8)
    return meant


def test_a_known_scheme_gives_the_weights_that_it_stands_for(folder: Path) -> None:
    meant = in_eight_bits(folder)
    found = opened(folder)
    assert found.quantization == {"method": "fp8", "dequantized": True}
    state = found.model.state_dict()
    for name, weight in meant.items():
        torch.testing.assert_close(state[name], weight)
    assert opened(folder, META).quantization == found.quantization


@pytest.mark.parametrize("device", ["cpu", META])
def test_a_scale_that_is_missing(folder: Path, device: str) -> None:
    in_eight_bits(folder)
    state = load_file(folder / "model.safetensors")
    del state["model.layers.0.mlp.down_proj.weight_scale_inv"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no scale for 1 packed weights \(model\.layers\.0\.mlp\.down_proj\.weight\)"):
        opened(folder, device)


@pytest.mark.parametrize(
    ("settings", "words", "hint"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "GPTQ", "gptqmodel"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "AWQ", "gptqmodel"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes", "bitsandbytes"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "compressed-tensors", "compressed-tensors"),
        ({"quant_method": "torchao", "quant_type": {"default": TORCHAO}}, "torchao", "torchao"),
        (FP8, "its weights are plain numbers", "config.json"),
        ({"quant_method": "mxfp4"}, "its weights are plain numbers", "config.json"),
        ({"quant_method": "modelopt"}, "transformers does not know", "bfloat16"),
    ],
)  # fmt: skip
def test_schemes_that_do_not_apply_here(folder: Path, settings: dict[str, Any], words: str, hint: str) -> None:
    folders.with_json(folder, quantization_config=settings)
    with pytest.raises(ModelError, match=words) as raised:
        opened(folder, META)
    assert hint in str(raised.value.hint)


def test_a_model_that_writes_no_text(folder: Path) -> None:
    folders.with_json(folder, model_type="t5")
    with pytest.raises(ModelError, match="a 't5' model, which does not write text from text alone"):
        opened(folder)
    with pytest.raises(ModelError, match="cannot be opened as ImageTextToText"):
        opened(folder, auto="AutoModelForImageTextToText")


def test_a_type_that_transformers_does_not_know(folder: Path) -> None:
    folders.with_json(folder, model_type="brandnew9")
    with pytest.raises(ModelError, match=r"of the model type 'brandnew9', which transformers \d") as raised:
        opened(folder)
    assert "pip install -U transformers" in str(raised.value.hint)


def test_code_of_its_own(folder: Path) -> None:
    folders.with_json(folder, model_type="mine", auto_map={"AutoConfig": "c.C", "AutoModelForCausalLM": "c.M"})
    with pytest.raises(ModelError, match="brings code of its own") as raised:
        opened(folder)
    assert "--trust-remote-code" in str(raised.value.hint)


def test_a_gpu_without_room_is_known_before_anything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1000, 2000))
    with pytest.raises(ModelError, match=r"does not fit into memory: about .* GB are needed .* free on cuda"):
        opened(folder, "cuda")


@pytest.mark.parametrize("thrown", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError(),
                                    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])  # fmt: skip
def test_memory_that_runs_out_while_loading(folder: Path, monkeypatch: pytest.MonkeyPatch, thrown: Exception) -> None:
    def fail(*_a: Any, **_k: Any) -> Any:
        raise thrown

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(ModelError, match=r"model does not fit into memory: about 0\.0 GB are needed") as raised:
        opened(folder)
    assert raised.value.__cause__ is thrown
    assert "--dtype bfloat16" in str(raised.value.hint)


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        open_tokenizer(folder, "model")


@pytest.mark.parametrize("text", ["{}", '{"model": {"type": "Brand-New"}, "added_tokens": []}'])
def test_a_tokenizer_that_is_none(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="the tokenizer of model cannot be loaded"):
        open_tokenizer(folder, "model")


def test_the_tokenizer_of_another_model(folder: Path) -> None:
    small = tiny.model()
    small.resize_token_embeddings(200)
    with pytest.raises(ModelError, match="has 260 tokens, the model embeds 200"):
        check_vocabulary(small, tiny.tokenizer(), "model")
    check_vocabulary(tiny.model(), tiny.tokenizer(), "model")


@pytest.mark.parametrize("device", ["cpu", META])
@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"hidden_act": "mystery"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "mystery", "rope_theta": 1e4}}, r"rope_parameters\.rope_type"),
        ({"dtype": "mystery"}, "dtype"),
    ],
)
def test_a_setting_that_this_transformers_does_not_know_is_named(
    folder: Path, said: dict[str, object], named: str, device: str
) -> None:
    folders.with_json(folder, **said)
    line = rf"model asks in config\.json for {named} 'mystery', which transformers [\d.]+ does not know"
    with pytest.raises(ModelError) as raised:
        open_weights(folder, "model", Wanted(("AutoModelForCausalLM",), device, None))
    assert re.fullmatch(line, raised.value.message)
    assert isinstance(raised.value.__cause__, KeyError | AttributeError)


def test_a_key_that_config_json_does_not_mention_is_told_as_it_is(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"^model cannot be loaded: KeyError: 'weight'$"), loading("model", folder):
        raise KeyError("weight")
