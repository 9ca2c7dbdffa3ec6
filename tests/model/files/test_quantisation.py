"""What a checkpoint says of its quantisation: nothing, something known, or something that would be passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint, quantisation
from tests.model.files import folders


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return folders.copy(tiny_folder, tmp_path / "model")


def stored_as(dtype: torch.dtype, scale: str | None = None) -> folders.Change:
    def change(state: folders.State) -> folders.State:
        made = {n: (50 * t).to(dtype) if "mlp" in n else t for n, t in state.items()}
        return made | ({f"{n}_{scale}": torch.ones(1) for n in state if "mlp" in n} if scale else {})

    return change


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("scale", [None, "scale", "scale_inv"])
def test_eight_bit_weights_without_a_scheme(folder: Path, dtype: torch.dtype, scale: str | None) -> None:
    folders.with_weights(folder, stored_as(dtype, scale))
    with pytest.raises(
        ModelError, match=r"declares no scheme: 9 weights are (I8|U8|F8_E4M3|F8_E5M2) numbers"
    ) as raised:
        quantisation.refuse_undeclared("model", checkpoint.read(folder).tensors)
    assert ("beside scales that nothing reads" in raised.value.message) is (scale is not None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_wider_and_narrower_plain_numbers_are_not_quantised(folder: Path, dtype: torch.dtype) -> None:
    folders.with_weights(folder, stored_as(dtype))
    quantisation.refuse_undeclared("model", checkpoint.read(folder).tensors)


def test_plain_weights_with_masks_and_positions_are_none(folder: Path) -> None:
    extra = {"attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8), "position_ids": torch.arange(4)[None]}
    folders.with_weights(folder, lambda state: state | extra)
    quantisation.refuse_undeclared("model", checkpoint.read(folder).tensors)
    assert quantisation.declared(folder) is None


@pytest.mark.parametrize("name", ["hf_quant_config.json", "quantize_config.json", "quant_config.json"])
def test_a_scheme_that_another_file_tells(folder: Path, name: str) -> None:
    folders.with_json(folder, name, quantization={"quant_algo": "FP8"})
    with pytest.raises(ModelError, match=rf"is quantised \(FP8\) by {name}, which config\.json does not declare"):
        quantisation.declared(folder)


def test_a_scheme_without_a_name(folder: Path) -> None:
    folders.with_json(folder, quantization_config={"bits": 4})
    with pytest.raises(ModelError, match="without saying which"):
        quantisation.declared(folder)


def test_schemes_by_name(folder: Path) -> None:
    folders.with_json(folder, text_config={"quantization_config": {"quant_method": "modelopt"}})
    found = quantisation.declared(folder)
    assert found == {"quant_method": "modelopt"}
    with pytest.raises(ModelError, match=r"the scheme 'modelopt', which transformers does not know"):
        quantisation.refuse_unknown("model", found)
    quantisation.refuse_unknown("model", {"quant_method": "gptq"})
    assert quantisation.method({"quant_method": "bitsandbytes", "load_in_4bit": True}) == "bitsandbytes_4bit"
    assert "pip install gptqmodel" in quantisation.needs({"quant_method": "awq"})
