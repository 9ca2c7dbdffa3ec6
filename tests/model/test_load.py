"""A plan says what the run says, and what was loaded is what was looked up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.files.resolve import resolve
from refusalctl.model.load import foresee, load
from tests.model.files import folders


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return folders.copy(tiny_folder, tmp_path / "model")


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "names": (lambda f: folders.with_weights(f, folders.renamed("layers.1.", "layers.1._orig_mod.")), "9 tensors"),
    "cut off": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "cut off"),
    "scheme": (lambda f: folders.with_json(f, quantization_config={"quant_method": "modelopt"}), "'modelopt'"),
    "type": (lambda f: folders.with_json(f, model_type="brandnew9"), "'brandnew9'"),
    "encoder": (lambda f: folders.with_json(f, model_type="t5"), "does not write text"),
    "tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "settings": (lambda f: folders.with_json(f, hidden_size="big"), "hidden_size"),
    "zero": (lambda f: folders.with_json(f, num_attention_heads=0), "ZeroDivisionError"),
    "generation": (lambda f: (f / "generation_config.json").write_text("{"), r"generation_config\.json is damaged"),
    "end": (lambda f: folders.with_json(f, "generation_config.json", eos_token_id="x"), "answers end in the token 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_plan_refuses_what_the_run_refuses(folder: Path, case: str) -> None:
    change, words = CASES[case]
    change(folder)
    told = []
    for attempt in (foresee, lambda ref: load(ref, device="cpu")):
        with pytest.raises(ModelError, match=words) as raised:
            attempt(resolve(str(folder)))
        told.append(raised.value.message)
    assert told[0] == told[1]


def test_a_model_that_changes_while_it_is_loaded(folder: Path) -> None:
    ref = resolve(str(folder))
    folders.with_weights(folder, folders.filled("lm_head.weight", 2.0))
    with pytest.raises(ModelError, match="changed after it was looked up"):
        load(ref, device="cpu")


def test_a_run_records_what_was_done_about_quantisation(folder: Path) -> None:
    from tests.model.test_pretrained import in_eight_bits

    in_eight_bits(folder)
    assert load(resolve(str(folder)), device="cpu").quantization == {"method": "fp8", "dequantized": True}
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]
