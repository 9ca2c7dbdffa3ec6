"""Every tensor of a model came from its checkpoint, every tensor of the checkpoint was read, and all are numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from refusalctl.errors import ModelError
from refusalctl.model.files import checkpoint
from refusalctl.model.loaded_whole import Misfit, check_buffers, check_names, check_values
from refusalctl.model.pretrained import META, Wanted, open_weights
from tests import tiny
from tests.model.files import folders

CAUSAL = ("AutoModelForCausalLM",)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return folders.copy(tiny_folder, tmp_path / "model")


def opened(folder: Path, device: str = "cpu", dtype: str = "float32") -> Any:
    return open_weights(folder, "model", Wanted(CAUSAL, device, dtype)).model


def refused(folder: Path, device: str = "cpu", dtype: str = "float32") -> ModelError:
    with pytest.raises(ModelError) as raised:
        opened(folder, device, dtype)
    return raised.value


WRAPPED = [
    ("layers.1.", "layers.1._orig_mod.", "torch.compile", 9),
    ("model.", "module.model.", "DistributedDataParallel", 29),
    ("layers.0.", "layers.0._fsdp_wrapped_module.", "FSDP", 9),
    ("layers.2.", "layers.2._checkpoint_wrapped_module.", "activation checkpointing", 9),
    ("q_proj.weight", "q_proj.base_layer.weight", "PEFT", 3),
    ("model.embed", "base_model.model.model.embed", "PEFT", 1),
]


@pytest.mark.parametrize(("old", "new", "maker", "n"), WRAPPED, ids=[w[2] + str(w[3]) for w in WRAPPED])
@pytest.mark.parametrize("device", ["cpu", META])
def test_names_of_a_wrapper_leave_no_layer_random(
    folder: Path, old: str, new: str, maker: str, n: int, device: str
) -> None:
    error = refused(folders.with_weights(folder, folders.renamed(old, new)), device)
    assert isinstance(error, Misfit)
    assert (len(error.missing), len(error.unread)) == (n, n)
    assert sorted(error.missing)[0] in error.message
    assert sorted(error.unread)[0] in error.message
    assert maker in str(error.hint)


def test_a_model_whole_and_in_parts_is_the_same(folder: Path) -> None:
    ids = torch.arange(1, 9)[None]
    whole = opened(folder)(ids).logits
    names = folders.sharded(folder)
    assert torch.equal(opened(folder)(ids).logits, whole)
    del names["lm_head.weight"]  # an index that forgets a tensor which its shard holds: it is read
    folders.index(folder, names)
    assert torch.equal(opened(folder)(ids).logits, whole)


@pytest.mark.parametrize(("layers", "words"), [(4, "9 tensors are missing"), (2, "9 tensors are not read")])
def test_more_or_fewer_layers_than_the_checkpoint_has(folder: Path, layers: int, words: str) -> None:
    error = refused(folders.with_json(folder, num_hidden_layers=layers))
    assert words in error.message
    assert f"config.json says {layers} layers" in str(error.hint)


def test_another_shape_is_named_with_both(folder: Path) -> None:
    error = refused(folders.with_json(folder, vocab_size=300))
    assert "lm_head.weight is 260x32 in the checkpoint, 300x32 in the model" in error.message


def test_tensors_that_nothing_reads(folder: Path) -> None:
    error = refused(folders.with_weights(folder, lambda s: s | {"model.layers.0.gate.weight": torch.ones(2)}))
    assert "1 tensor is not read (model.layers.0.gate.weight)" in error.message


def test_scales_that_nothing_reads(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight_scale"
    error = refused(folders.with_weights(folder, lambda s: s | {name: torch.ones(1)}))
    assert name in error.message
    assert "quantised by a scheme that is not declared" in str(error.hint)


def test_what_the_architecture_does_not_read_is_no_fault(folder: Path) -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    opened(folders.with_weights(folder, lambda s: s | extra))


def test_tied_weights(folder: Path) -> None:
    """One of two will do, and where the checkpoint has both, both count."""
    head = opened(folder).get_output_embeddings().weight
    both = opened(folders.with_json(folder, tie_word_embeddings=True))
    assert torch.equal(both.get_output_embeddings().weight, head)
    assert not torch.equal(both.get_input_embeddings().weight, head)
    one = opened(folders.with_weights(folder, folders.without("embed_tokens")))
    assert torch.equal(one.get_input_embeddings().weight, head)
    assert "2 tensors are missing" in refused(folders.with_weights(folder, folders.without("lm_head"))).message


def test_an_untied_model_without_its_head(folder: Path) -> None:
    error = refused(folders.with_weights(folder, folders.without("lm_head")))
    assert "1 tensor is missing (lm_head.weight)" in error.message
    assert "tie_word_embeddings" in str(error.hint)


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    error = refused(folders.with_weights(folder, lambda s: {n: t.long() if "norm" in n else t for n, t in s.items()}))
    assert "holds I64 numbers where weights are expected: model.layers.0.input_layernorm.weight" in error.message


def test_the_librarys_word_is_not_taken(folder: Path) -> None:
    """A parameter that was given no value is found even where nothing is said to be missing."""
    model = tiny.model()
    clean: dict[str, Any] = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
    with pytest.raises(Misfit, match=r"30 tensors are missing"):
        check_names(model, clean, checkpoint.read(folder), "model", quantised=None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(folder: Path, value: float) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    error = refused(folders.with_weights(folder, folders.filled(name, value)))
    assert f"1 tensor is not finite ({name})" in error.message
    assert "damaged" in str(error.hint)


def test_weights_too_large_for_half_precision(folder: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    folders.with_weights(folder, folders.filled(name, 1e6))
    opened(folder)
    error = refused(folder, dtype="float16")
    assert name in error.message
    assert "bfloat16" in str(error.hint)


def test_a_sum_that_overflows_is_no_fault(folder: Path) -> None:
    model = tiny.model().half()
    with torch.no_grad():
        model.model.norm.weight.fill_(60000.0)
    check_values(model, checkpoint.read(folder), "model")


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_an_output_layer_that_cannot_choose(folder: Path, value: float) -> None:
    def constant(state: folders.State) -> folders.State:
        return state | {"lm_head.weight": torch.full_like(state["lm_head.weight"], value)}

    assert "its output layer is the same" in refused(folders.with_weights(folder, constant)).message


def test_what_a_models_own_code_computes_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of a model's own may not know that its frequencies must be made again after loading."""
    model = tiny.model()
    monkeypatch.setattr(type(model), "is_custom_code", classmethod(lambda _cls: True))
    check_buffers(model, model.config, "model")
    model.model.rotary_emb.inv_freq.fill_(7.0)
    with pytest.raises(ModelError, match=r"not what its own code computes \(model\.rotary_emb\.inv_freq\)"):
        check_buffers(model, model.config, "model")
