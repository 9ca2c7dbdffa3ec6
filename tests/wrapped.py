"""Tiny random image-and-text models around a text model, each as a user would have it on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.tiny import tokenizer

TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14, "num_channels": 3,
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
KINDS: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        "text_config": TEXT | {"rope_parameters": ROPE},
        "vision_config": {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32,
                          "fullatt_block_indexes": [1]},
    },
    "qwen2_vl": {
        "text_config": TEXT | {"rope_parameters": ROPE},
        "vision_config": {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
    },
    "mistral3": {
        "text_config": TEXT | {"model_type": "mistral", "sliding_window": None},
        "vision_config": VISION | {"model_type": "pixtral", "head_dim": 8},
    },
    "smolvlm": {"text_config": TEXT | {"model_type": "llama"}, "vision_config": VISION, "scale_factor": 1},
    "idefics3": {"text_config": TEXT | {"model_type": "llama"}, "vision_config": VISION, "scale_factor": 1},
    "gemma3": {
        "text_config": TEXT | {"sliding_window": 16}, "mm_tokens_per_image": 4,
        "vision_config": VISION | {"model_type": "siglip_vision_model"},
    },
    "llava": {
        "text_config": TEXT | {"model_type": "llama"},
        "vision_config": VISION | {"model_type": "clip_vision_model", "projection_dim": 16},
    },
}  # fmt: skip


def model(kind: str) -> Any:
    """A wrapper whose weights are large enough that every block matters."""
    torch.manual_seed(0)
    words = tokenizer()
    given = KINDS[kind]
    ids = {"pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}
    text = {"vocab_size": len(words), **ids, **given["text_config"]}
    marks = dict.fromkeys(("image_token_id", "video_token_id", "image_token_index", "vision_start_token_id"), 255)
    config = AutoConfig.for_model(kind, **{**marks, **given, "text_config": text, "tie_word_embeddings": False})
    built = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            scale = 0.2 if "norm" in name else 0.3
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return built.eval()


def folder(path: Path, kind: str) -> Path:
    model(kind).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path
