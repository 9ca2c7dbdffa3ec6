"""PEFT adapters: every tensor loaded and finite, or named; the merged model is the adapted one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from refusalctl.errors import ModelError
from refusalctl.model.files.resolve import resolve
from refusalctl.model.load import foresee, load
from tests import tiny
from tests.model.files import folders

IDS = torch.arange(1, 9)[None]


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """An adapter of the tiny model with a head of its own, and the logits of the two together."""
    torch.manual_seed(1)
    settings = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], modules_to_save=["lm_head"],
                          init_lora_weights=False, task_type="CAUSAL_LM")  # fmt: skip
    adapted = get_peft_model(tiny.model(), settings)
    adapted.peft_config["default"].base_model_name_or_path = str(tiny_folder)
    path = tmp_path_factory.mktemp("adapters") / "mine"
    adapted.save_pretrained(path)
    with torch.no_grad():
        return path, adapted.eval()(IDS).logits


@pytest.fixture
def adapter(made: tuple[Path, torch.Tensor], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "mine")
    return tmp_path / "mine"


def change(adapter: Path, how: folders.Change) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({n: t.contiguous() for n, t in how(load_file(file)).items()}, file)


def test_an_adapter_given_as_a_model(adapter: Path, made: tuple[Path, torch.Tensor], tiny_folder: Path) -> None:
    ref = resolve(str(adapter))
    foresee(ref)
    model = load(ref, device="cpu").model
    torch.testing.assert_close(model(IDS).logits, made[1], rtol=1e-4, atol=1e-4)
    plain = load(resolve(str(tiny_folder)), device="cpu").model
    assert not torch.allclose(model(IDS).logits, plain(IDS).logits, atol=0.1)


A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
WRONG = [
    (folders.without(A), f"1 tensors are missing ({A})"),
    (folders.without("lm_head"), "1 tensors are missing (base_model.model.lm_head.weight)"),
    (lambda state: state | {A.replace("q_proj", "v_proj"): state[A].clone()}, "1 tensors are not read"),
    (lambda state: state | {A: state[A][:2].clone()}, f"1 tensors are of another shape ({A})"),
    (folders.renamed("layers.1", "layers.1._orig_mod"), "4 tensors are missing"),
]


@pytest.mark.parametrize(("how", "words"), WRONG)
def test_an_adapter_that_does_not_fit_is_refused_by_run_and_plan(
    adapter: Path, how: folders.Change, words: str
) -> None:
    change(adapter, how)
    ref = resolve(str(adapter))
    for attempt in (lambda: foresee(ref), lambda: load(ref, device="cpu")):
        with pytest.raises(ModelError) as raised:
            attempt()
        assert words in raised.value.message


def test_an_adapter_that_is_not_finite(adapter: Path) -> None:
    change(adapter, folders.filled(A, float("nan")))
    with pytest.raises(ModelError, match=r"1 tensors hold NaN or infinite values"):
        load(resolve(str(adapter)), device="cpu")


def test_an_adapter_of_prompts_cannot_be_merged(adapter: Path) -> None:
    folders.with_json(adapter, "adapter_config.json", peft_type="PROMPT_TUNING")
    with pytest.raises(ModelError, match="of the kind PROMPT_TUNING"):
        foresee(resolve(str(adapter)))
