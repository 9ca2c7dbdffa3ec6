"""GGUF files of one's own: written by llama.cpp's library, read as a model, and never taken for what they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.files import gguf_file
from refusalctl.model.files.resolve import resolve
from refusalctl.model.load import load
from refusalctl.settings import Machine
from refusalctl.steps.precision import compare_precision
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store
from tests import tiny

SIZES = {"n_layers": 2, "d_model": 32}
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp turns them: halves of each head beside each other, not behind."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, kind: str = "F32") -> Path:
    """The tiny Llama as a GGUF file, its matrices in a given type."""
    import gguf

    model, made = tiny.model("llama", **SIZES), tiny.tokenizer()
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(made))
    writer.add_tokenizer_model("gpt2")
    words = made.convert_ids_to_tokens(range(len(made)))
    words[made.get_vocab()["ÿ"]] = "ab"  # transformers asks for a merge, whose result must be a token
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<") and len(word) > 1 else 1 for word in words])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(made.bos_token_id)
    writer.add_eos_token_id(made.eos_token_id)
    writer.add_pad_token_id(made.pad_token_id)
    writer.add_chat_template(tiny.TEMPLATE)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        layer = name.split(".")[2] if ".layers." in name else None
        inner = name.split(".", 3)[3] if layer else name
        short = NAMES[inner.removesuffix(".weight")]
        array = tensor.numpy()
        if short in heads:
            array = permuted(array, heads[short])
        chosen = gguf.GGMLQuantizationType[kind if array.ndim > 1 and array.shape[-1] % 32 == 0 else "F32"]
        stored = gguf.quants.quantize(np.ascontiguousarray(array), chosen)
        writer.add_tensor(f"blk.{layer}.{short}.weight" if layer else f"{short}.weight", stored, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSALCTL_CACHE", str(tmp_path / "cache"))


def test_a_gguf_file_is_the_model_that_was_written_into_it(tmp_path: Path) -> None:
    ref = resolve(str(write(tmp_path / "tiny.gguf")))
    assert ref.name == "tiny.gguf"
    assert ref.revision.startswith("gguf-")
    found, original = load(ref, device="cpu"), tiny.model("llama", **SIZES)
    ids = torch.tensor([found.chat.encode("Name a colour.")])
    with torch.no_grad():
        torch.testing.assert_close(found.model(ids).logits, original(ids).logits, atol=1e-5, rtol=1e-5)
    assert (
        ids[0].tolist()
        == tiny.tokenizer().apply_chat_template(
            [{"role": "user", "content": "Name a colour."}], add_generation_prompt=True
        )["input_ids"]
    )


def test_another_file_is_another_model(tmp_path: Path) -> None:
    plain, packed = (resolve(str(write(tmp_path / f"{kind}.gguf", kind))) for kind in ("F32", "Q8_0"))
    assert plain.revision != packed.revision
    assert plain.folder != packed.folder
    assert (plain.rounded, packed.rounded, packed.quantization) == (None, "GGUF Q8_0", None)  # plain numbers by now


def test_weights_of_a_quantised_file_are_not_quantised_a_second_time_nor_compared_with_themselves(
    tmp_path: Path,
) -> None:
    packed = write(tmp_path / "q8.gguf", "Q8_0")
    with pytest.raises(ModelError, match=r"quantised by 'GGUF Q8_0' already"):
        load(resolve(str(packed)), device="cpu", dtype="nf4")
    with pytest.raises(BadInput, match=r"is quantised by 'GGUF Q8_0'"):
        compare_precision(Workbench(Store(tmp_path / "store"), Machine(str(packed), device="cpu", dtype="bfloat16")))


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [("no.gguf", None, "there is no file"), ("odd.gguf", b"{}", "no GGUF file"),
     ("m-00001-of-00002.gguf", b"GGUF", "one part of several")],
)  # fmt: skip
def test_what_is_no_whole_gguf_file_is_refused(name: str, content: bytes | None, cause: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=cause):
        resolve(str(tmp_path / name))
    assert gguf_file.named("org/name") is None
