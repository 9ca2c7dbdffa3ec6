"""Random-weight models of published shapes, for figures where no weights are at hand.

Every matrix of theirs costs what a trained one's costs. What they answer means nothing, so a benchmark compares scores
and full grids with them, never choices that could end early.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files.resolve import resolve
from refusalctl.model.load import load

# numbers of their published config.json
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-7b": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
        "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    },
    "qwen2.5-0.5b": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
        "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    },
    "tiny": {
        "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50000, "tie_word_embeddings": False,
    },
}  # fmt: skip


def opened(name: str, *, device: str, dtype: str, tokenizer: Path | None = None) -> ChatModel:
    """A shape's random model with the tokenizer of `smollm2` or of a folder, or else any model refusalctl knows."""
    if name not in SHAPES:
        return load(resolve(name), device=device, dtype=dtype)
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    made = AutoConfig.for_model(**SHAPES[name])
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(made, dtype=getattr(torch, dtype))
    folder = tokenizer or resolve("smollm2").folder
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model.generation_config.pad_token_id = words.pad_token_id
    return ChatModel(model.eval().requires_grad_(False), words, None)
