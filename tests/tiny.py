"""Tiny random chat models of real architectures, and a byte tokenizer with a chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{{ '<bos>' }}{% for m in messages %}{{ '<turn>' + m['role'] + '\\n' + m['content'] + '<end>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>assistant\\n' }}{% endif %}"
)
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral", "phi3")
# what each is known to add to the residual stream
PLAIN = ("self_attn", "mlp")
NORMED = ("post_attention_layernorm", "post_feedforward_layernorm")
WRITES = {name: NORMED if name in ("gemma2", "gemma3_text") else PLAIN for name in ARCHITECTURES}


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, so that any script is many tokens, and four special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate([*alphabet, "<pad>", "<bos>", "<turn>", "<end>"])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<pad>", "<bos>", "<turn>", "<end>"])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<end>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made


def model(architecture: str = "llama", *, n_layers: int = 3, d_model: int = 32, seed: int = 0) -> Any:
    """A random model whose weights are large enough that every block matters."""
    torch.manual_seed(seed)
    made = tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(made), "hidden_size": d_model, "intermediate_size": 48, "num_hidden_layers": n_layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
        "pad_token_id": made.pad_token_id, "eos_token_id": made.eos_token_id, "bos_token_id": made.bos_token_id,
        "sliding_window": 16, "attn_implementation": "eager",
    }  # fmt: skip
    if architecture in ("llama", "phi3"):
        settings.pop("sliding_window")
    if architecture == "phi3":
        settings.pop("head_dim")
    built = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **settings), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            scale = 0.2 if "norm" in name else 0.3
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return built.eval()


def folder(path: Path, architecture: str = "llama", **settings: Any) -> Path:
    """A model's folder as a user would have it on disk."""
    model(architecture, **settings).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path
