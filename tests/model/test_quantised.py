"""Weights quantised while they are loaded, and what that is measured against."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from refusalctl.cli import app as cli
from refusalctl.errors import BadInput, ModelError
from refusalctl.model.files import quantisation
from refusalctl.model.files.checkpoint import read
from refusalctl.model.files.resolve import resolve
from refusalctl.model.load import load
from refusalctl.model.memory import weights_bytes
from refusalctl.settings import Machine
from refusalctl.steps.precision import compare_precision
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store
from tests import tiny


def bench(tmp_path: Path, model: Path, **machine: Any) -> Workbench:
    return Workbench(Store(tmp_path / "store"), Machine(str(model), "cpu", **machine))


def test_a_quantised_checkpoint_is_not_compared_with_its_own_numbers(tiny_folder: Path, tmp_path: Path) -> None:
    copy = tiny.folder(tmp_path / "packed")
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="would not show what that changed") as caught:
        compare_precision(bench(tmp_path, copy, dtype="bfloat16"))
    assert "--against MODEL" in (caught.value.hint or "")


def test_a_model_is_compared_with_the_one_that_it_was_made_from(tiny_folder: Path, tmp_path: Path) -> None:
    rounded = tiny.folder(tmp_path / "rounded")
    from safetensors.torch import load_file, save_file

    weights = load_file(rounded / "model.safetensors")
    save_file({n: (w * 8).round() / 8 for n, w in weights.items()}, rounded / "model.safetensors", {"format": "pt"})
    same = compare_precision(bench(tmp_path, tiny_folder, dtype="float32"), against=str(tiny_folder))
    assert same[1:5] == (0.0, 0.0, 0, 0.0)
    found = compare_precision(bench(tmp_path, rounded, dtype="float32"), against=str(tiny_folder))
    assert found.n == same.n
    assert found.kl_mean > 1e-4
    assert found.direction_cosine_min < 0.999


def test_models_that_read_prompts_otherwise_are_not_compared(tiny_folder: Path, tmp_path: Path) -> None:
    other = tiny.folder(tmp_path / "other")
    template = (other / "chat_template.jinja").read_text()
    (other / "chat_template.jinja").write_text(template.replace("assistant", "model"))
    with pytest.raises(BadInput, match="do not read prompts alike"):
        compare_precision(bench(tmp_path, other, dtype="bfloat16"), against=str(tiny_folder))


def test_without_the_package_the_dtype_is_refused_with_what_to_install(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="needs the package bitsandbytes") as caught:
        load(resolve(str(tiny_folder)), device="cpu", dtype="nf4")
    assert "refusalctl[quantised]" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="a second time"):
        quantisation.while_loading("int8", "tiny", "gptq")


def test_judges_are_not_quantised_with_the_model_and_memory_counts_bits(tiny_folder: Path, tmp_path: Path) -> None:
    assert bench(tmp_path, tiny_folder, dtype="nf4").judge_dtype == "auto"
    assert bench(tmp_path, tiny_folder, dtype="bfloat16").judge_dtype == "bfloat16"
    ref = resolve(str(tiny_folder))
    tensors = read(tiny_folder).tensors
    linear = [
        each for name, each in tensors.items() if len(each.shape) == 2 and "embed" not in name and "lm_" not in name
    ]
    numel, rows = sum(each.numel for each in linear), sum(each.shape[0] for each in linear)
    rest = sum(each.numel for each in tensors.values()) - numel
    assert rest > 0
    assert weights_bytes(ref, "float32") == 4 * (numel + rest)
    assert weights_bytes(ref, "int8") == 4 * rest + numel + 4 * rows
    assert weights_bytes(ref, "int8", "cuda") == 2 * rest + numel + 4 * rows
    assert weights_bytes(ref, "nf4") == 4 * rest + numel // 2 + 4 * sum(-(-each.numel // 64) for each in linear)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("m", "m", "float32", None), None),
        (("m", "m", "nf4", None), "--precision --model m --dtype nf4`"),
        (("m", "m", "float32", "awq"), "quantised (awq)"),
        (("m.gguf", "m.gguf", "float32", "GGUF Q4_K"), "--model m.gguf --against ORIGINAL`"),
    ],
)
def test_quantised_weights_come_with_a_warning(asked: tuple[Any, ...], says: str | None) -> None:
    found = quantisation.warning(*asked)
    assert found is None if says is None else says in str(found)


def even(folder: Path) -> Path:
    """A random Llama whose matrices have sides of 64: bitsandbytes packs blocks of 32 rows on a CPU."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = tiny.tokenizer()
    config = LlamaConfig(
        vocab_size=len(made), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, pad_token_id=made.pad_token_id,
        eos_token_id=made.eos_token_id, bos_token_id=made.bos_token_id, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["nf4", "int8"])
def test_weights_are_quantised_and_the_command_measures_what_that_changes(
    dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = even(tmp_path / "model")
    model = load(resolve(str(folder)), device="cpu", dtype=dtype)
    assert model.quantization == {"method": f"bitsandbytes {dtype}", "dequantized": False}
    kinds = {type(module).__name__ for module in model.model.modules()}
    assert {"nf4": "Linear4bit", "int8": "Linear8bitLt"}[dtype] in kinds
    assert next(model.model.parameters()).dtype == torch.float32  # embeddings stay
    asked = ["doctor", "--precision", "--model", str(folder), "--dtype", dtype, "--device", "cpu", "--json"]
    monkeypatch.setattr(sys, "argv", ["refusalctl", *asked, "--store", str(tmp_path / "store")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    found = json.loads(capsys.readouterr().out)["precision"]
    assert found["dtype"] == dtype
    assert 1e-6 < found["kl_max"] < 2
    assert 0.5 < found["direction_cosine_min"] < 1
