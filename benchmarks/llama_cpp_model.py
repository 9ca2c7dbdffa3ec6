"""A tiny Qwen2 model as GGUF, and its logits by llama.cpp itself, with or without a control vector.

Through llama.cpp's C interface as `llama-cpp-py-sync` declares it; caches and weights in float32, so that what is left
is rounding. Where that package's library needs a newer system, the one inside `xllamacpp` is called in its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_REST = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_qwen2(path: Path, model: Any) -> None:
    """The model's weights in float32, without a vocabulary: tokens are given by number."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(_rope(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in model.state_dict().items():
        writer.add_tensor(_name(name), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rope(config: Any) -> float:
    told = getattr(config, "rope_parameters", None) or {}
    return float(told.get("rope_theta", getattr(config, "rope_theta", 10000.0)))


def _name(name: str) -> str:
    if name in _REST:
        return _REST[name]
    _model, _layers, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_BLOCK[rest]}"


def library() -> tuple[Any, Any, str]:
    """CFFI, llama.cpp, and the distribution that brought it."""
    from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib

    try:
        return get_ffi(), get_lib(), "llama-cpp-py-sync"
    except RuntimeError:
        import xllamacpp

        ffi = get_ffi()
        lib = ffi.dlopen(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
        wanted = lib.llama_context_default_params()
        if (wanted.n_ctx, wanted.n_batch, wanted.n_ubatch) != (512, 2048, 512):
            raise RuntimeError("xllamacpp has another interface than llama-cpp-py-sync declares") from None
        return ffi, lib, "xllamacpp"


def logits(path: Path, ids: list[int], vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Logits [n_tokens, n_vocab] of llama.cpp. `vectors` [n_layers, d_model]: row N - 1 is `direction.N`."""
    ffi, lib, _name = library()
    silent = ffi.callback("void(enum ggml_log_level, char *, void *)", lambda *_told: None)
    lib.llama_log_set(silent, ffi.NULL)
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    if model == ffi.NULL:
        raise RuntimeError("llama.cpp does not read the model")
    wanted = lib.llama_context_default_params()
    wanted.n_ctx, wanted.n_batch, wanted.n_threads = 64, 64, 1
    wanted.type_k = wanted.type_v = 0  # GGML_TYPE_F32
    wanted.flash_attn_type = 0
    context = lib.llama_init_from_model(model, wanted)
    if vectors is not None:
        n_layers, d_model = vectors.shape
        held = ffi.from_buffer("float[]", np.ascontiguousarray(vectors))
        if lib.llama_set_adapter_cvec(context, held, vectors.size, d_model, 1, n_layers) != 0:
            raise RuntimeError("llama.cpp refuses the control vector")
    batch = lib.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for place, token in enumerate(ids):
        batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
        batch.seq_id[place][0], batch.logits[place] = 0, 1
    if lib.llama_decode(context, batch) != 0:
        raise RuntimeError("llama.cpp does not decode")
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    held_logits = (ffi.buffer(lib.llama_get_logits_ith(context, i), 4 * n_vocab) for i in range(len(ids)))
    found = np.stack([np.frombuffer(row, np.float32).copy() for row in held_logits])
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    lib.llama_model_free(model)
    return found
