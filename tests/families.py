"""Decoder families of transformers as tiny random models, and their weights orthogonalised by plain code.

Nothing here uses the package: what writes to the residual stream is written down by hand, parameter by parameter, so
that the probe and the hooks are checked against an independent account.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.tiny import tokenizer

D_MODEL = 32
POST_NORM = "RMSNorm behind a sublayer divides by its output's length, so no weight before it can stand for ablation"


class Family(NamedTuple):
    """One architecture.

    `writes`: parameters (last parts of their names) that write to the stream, with the axis that is d_model; the first
    match counts. `behind`: modules whose output has to be projected because no weight can do it; `reason` says why.
    A family with a reason and no `behind` has no counterpart in weights at all.
    """

    kind: str
    settings: dict[str, Any]
    writes: dict[str, int]
    blocks: str = "model.layers"
    norm: str = "model.norm"
    behind: tuple[str, ...] = ()
    reason: str = ""

    @property
    def experts(self) -> bool:
        return "num_experts" in self.settings


_BASE: dict[str, Any] = {
    "hidden_size": D_MODEL, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "attn_implementation": "eager",
    "experts_implementation": "eager",  # the other kernels know no float64
}  # fmt: skip
_MOE: dict[str, Any] = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "decoder_sparse_step": 1,
}  # fmt: skip
_HEAD: dict[str, Any] = {"head_dim": 8}
_SLIDE: dict[str, Any] = {"sliding_window": 16}
_BIAS: dict[str, Any] = {"attention_bias": True, "mlp_bias": True}
LLAMA = {"embed_tokens": -1, "self_attn.o_proj": 0, "mlp.down_proj": 0}
EXPERTS = {"embed_tokens": -1, "self_attn.o_proj": 0, "experts.down_proj": 1, "down_proj": 0}
NEOX = {"embed_in": -1, "word_embeddings": -1, "dense": 0, "dense_4h_to_h": 0}
NORMED = {"embed_tokens": -1}  # the rest is projected behind its norm
GPT2 = {"wte": -1, "wpe": -1, "c_proj": -1}
_AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")
_GPT: dict[str, Any] = {"blocks": "transformer.h", "norm": "transformer.ln_f"}
_ROTARY: dict[str, Any] = {"partial_rotary_factor": 0.5}

FAMILIES: dict[str, Family] = {
    "Llama": Family("llama", _HEAD | _BIAS, LLAMA),
    "Qwen2": Family("qwen2", {}, LLAMA),
    "Qwen3": Family("qwen3", _HEAD | _BIAS, LLAMA),
    "Mistral": Family("mistral", _HEAD | _SLIDE, LLAMA),
    "Gemma": Family("gemma", _HEAD | _BIAS, LLAMA),
    "Gemma 2": Family("gemma2", _HEAD | _SLIDE, NORMED, behind=_AFTER, reason=POST_NORM),
    "Gemma 3": Family("gemma3_text", _HEAD | _SLIDE, NORMED, behind=_AFTER, reason=POST_NORM),
    "Gemma 4": Family(
        "gemma4_text",
        _HEAD | _SLIDE | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 260,
                          "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
        {},
        reason="norms behind sublayers, and the per-layer inputs are made from the embedding beside the stream",
    ),
    "Phi": Family(
        "phi", _ROTARY, {"embed_tokens": -1, "self_attn.dense": 0, "mlp.fc2": 0}, norm="model.final_layernorm"
    ),
    "Phi-3": Family("phi3", {}, LLAMA),
    "GPT-NeoX": Family("gpt_neox", {}, NEOX, "gpt_neox.layers", "gpt_neox.final_layer_norm"),
    "GPT-NeoX, sequential": Family(
        "gpt_neox", {"use_parallel_residual": False}, NEOX, "gpt_neox.layers", "gpt_neox.final_layer_norm"
    ),
    "Cohere": Family("cohere", _BIAS | {"logit_scale": 0.2}, LLAMA),
    "Cohere 2": Family("cohere2", _HEAD | _SLIDE | {"logit_scale": 0.2}, LLAMA),
    "Falcon": Family("falcon", {"bias": True}, NEOX, **_GPT),
    "Falcon, new decoder": Family("falcon", {"bias": True, "new_decoder_architecture": True}, NEOX, **_GPT),
    "Falcon, sequential, ALiBi": Family(
        "falcon", {"bias": True, "parallel_attn": False, "alibi": True}, NEOX, **_GPT
    ),
    "OLMo": Family("olmo", _BIAS, LLAMA),
    "OLMo 2": Family("olmo2", _BIAS, NORMED, behind=_AFTER, reason=POST_NORM),
    "OLMo 3": Family("olmo3", _SLIDE, NORMED, behind=_AFTER, reason=POST_NORM),
    "GLM": Family("glm", _HEAD | _ROTARY, LLAMA),
    "GLM-4": Family(
        "glm4", _HEAD | _ROTARY, NORMED,
        behind=("post_self_attn_layernorm", "post_mlp_layernorm"), reason=POST_NORM,
    ),
    "EXAONE 4": Family("exaone4", _HEAD | _SLIDE, NORMED, behind=_AFTER, reason=POST_NORM),
    "Granite": Family(
        "granite",
        _BIAS | {"residual_multiplier": 0.3, "embedding_multiplier": 3.0, "logits_scaling": 2.0,
                 "attention_multiplier": 0.3},
        LLAMA,
    ),
    "Granite MoE, shared": Family(
        "granitemoeshared", _MOE | {"shared_intermediate_size": 24, "residual_multiplier": 0.3},
        EXPERTS | {"shared_mlp.output_linear": 0},
    ),
    "Mixtral": Family("mixtral", _HEAD | _MOE | {"sliding_window": None}, EXPERTS),
    "Qwen2-MoE": Family("qwen2_moe", _MOE, EXPERTS),
    "Qwen3-MoE": Family("qwen3_moe", _HEAD | _MOE, EXPERTS),
    "OLMoE": Family("olmoe", _MOE, EXPERTS),
    "gpt-oss": Family(
        "gpt_oss", _HEAD | _MOE | _SLIDE | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        {"embed_tokens": -1, "self_attn.o_proj": 0, "experts.down_proj": -1},
    ),
    "DeepSeek-V3": Family(
        "deepseek_v3",
        _MOE | {"num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4,
                "qk_nope_head_dim": 4, "v_head_dim": 8, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
                "first_k_dense_replace": 1, "head_dim": 4},
        EXPERTS,
    ),
    "Llama 4": Family(
        "llama4_text", _HEAD | _MOE | {"intermediate_size_mlp": 48, "attention_chunk_size": 64},
        {"embed_tokens": -1, "self_attn.o_proj": 0, "experts.down_proj": -1, "down_proj": 0},
    ),
    "StableLM": Family("stablelm", {"use_qkv_bias": True}, LLAMA),
    "StableLM, parallel": Family("stablelm", {"use_parallel_residual": True}, LLAMA),
    "Starcoder2": Family("starcoder2", {"use_bias": True}, {"embed_tokens": -1, "o_proj": 0, "c_proj": 0}),
    "Nemotron": Family("nemotron", _BIAS | _ROTARY, LLAMA),
    "SmolLM3": Family("smollm3", {}, LLAMA),
    "GPT-2": Family("gpt2", {}, GPT2, **_GPT),
    "GPT-J": Family("gptj", {"rotary_dim": 4}, {"wte": -1, "attn.out_proj": 0, "mlp.fc_out": 0}, **_GPT),
    "OPT": Family(
        "opt", {"ffn_dim": 48, "word_embed_proj_dim": D_MODEL},
        {"embed_tokens": -1, "embed_positions": -1, "self_attn.out_proj": 0, "fc2": 0},
        "model.decoder.layers", "model.decoder.final_layer_norm",
    ),
    "BLOOM": Family(
        "bloom", {}, {"self_attention.dense": 0, "dense_4h_to_h": 0}, **_GPT, behind=("word_embeddings_layernorm",),
        reason="a LayerNorm stands between the embedding and the stream",
    ),
    "MPT": Family(
        "mpt", {"d_model": D_MODEL, "n_heads": 4, "n_layers": 3, "max_seq_len": 256},
        {"wte": -1, "attn.out_proj": 0, "ffn.down_proj": 0}, "transformer.blocks", "transformer.norm_f",
    ),
    "Qwen3-Next": Family(
        "qwen3_next",
        _HEAD | _MOE | {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
                        "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"] * 2,
                        "num_hidden_layers": 4},
        EXPERTS | {"linear_attn.out_proj": 0},
    ),
    "LFM2": Family(
        "lfm2", {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False},
        {"embed_tokens": -1, "out_proj": 0, "feed_forward.w2": 0}, norm="model.embedding_norm",
    ),
}  # fmt: skip


def build(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A random model in eval mode: every bias, norm weight and scale is drawn, so that none can be forgotten."""
    return copy.deepcopy(_drawn(name)).to(dtype)


def build_for(name: str, made: PreTrainedTokenizerFast) -> Any:
    """The same with as many embeddings as this tokenizer has tokens, and its special ones."""
    return _random(name, made)


@cache
def _drawn(name: str) -> Any:
    return _random(name, tokenizer())


def _random(name: str, made: PreTrainedTokenizerFast, seed: int = 0) -> Any:
    family = FAMILIES[name]
    special = {f"{k}_token_id": getattr(made, f"{k}_token_id") for k in ("pad", "eos", "bos")}
    config = AutoConfig.for_model(family.kind, **_BASE | {"vocab_size": len(made)} | special | family.settings)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor, scale: float) -> Tensor:
        return scale * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases around 0, norm weights around where they start
                parameter.add_(drawn(parameter, 0.2))
            else:
                parameter.copy_(drawn(parameter, 0.2))
        for label, buffer in model.named_buffers():
            if label.endswith("layer_scalar"):
                buffer.fill_(0.8)
    return model.eval().requires_grad_(False)


def direction(seed: int = 1) -> Tensor:
    return torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def projector(rows: Tensor) -> Tensor:
    """I - R^T (R R^T)^-1 R in float64: what is orthogonal to the rows stays."""
    rows = rows.double().reshape(-1, D_MODEL)
    kept: Tensor = torch.eye(D_MODEL, dtype=torch.float64) - rows.T @ torch.linalg.inv(rows @ rows.T) @ rows
    return kept


def _along(tensor: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """The matrix applied to one axis."""
    moved = tensor.double().movedim(axis, -1) @ matrix.T
    return moved.movedim(-1, axis).to(tensor.dtype)


def orthogonalise(name: str, model: Any, rows: Tensor, strength: float = 1.0) -> Any:
    """Weights that cannot write along `rows` (Arditi et al. 2024, appendix E), in place and in memory only; with a
    `strength` below 1, W - strength R^T (R R^T)^-1 R W.

    An output layer that shares the embedding gets a copy of its own first: it reads the stream.
    """
    family = FAMILIES[name]
    matrix = (1 - strength) * torch.eye(D_MODEL, dtype=torch.float64) + strength * projector(rows)
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    unmatched = set(family.writes)
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            for ending, axis in family.writes.items():
                if re.search(rf"(^|\.){re.escape(ending)}(\.weight|\.bias|_bias)?$", label):
                    parameter.copy_(_along(parameter, axis, matrix))
                    unmatched.discard(ending)
                    break
    known = {"embed_in", "word_embeddings"} if family.writes is NEOX else {"down_proj"}  # one of two, or not in all
    assert unmatched <= known, unmatched
    for label, module in list(model.named_modules()):
        if label.rpartition(".")[2] in family.behind:
            parent, _, last = label.rpartition(".")
            setattr(model.get_submodule(parent), last, nn.Sequential(module, Projection(matrix.to(dtype_of(model)))))
    return model


class Projection(nn.Module):
    """x P^T for a fixed matrix."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T


def dtype_of(model: Any) -> torch.dtype:
    dtype: torch.dtype = next(model.parameters()).dtype
    return dtype


def stream(name: str, model: Any, run: Callable[[], object]) -> list[Tensor]:
    """The stream as it enters every block and the final norm while `run` runs, [batch, seq, d_model] each."""
    family, kept, handles = FAMILIES[name], [], []

    def keep(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.append((args[0] if args else kwargs["hidden_states"]).detach().clone())

    for module in (*model.get_submodule(family.blocks), model.get_submodule(family.norm)):
        handles.append(module.register_forward_pre_hook(keep, with_kwargs=True))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return kept
