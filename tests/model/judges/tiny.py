"""Tiny judges on disk: real architectures, tokenizers of the same shape, and weights that make the answer known.

Attention and MLP write nothing, so the last token alone decides the next one: a chain of verdict lines, each a token of
its own, which ordinary text never encodes to.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": {"special": ["<s>", "</s>", "[INST]", "[/INST]"], "bos": "<s>", "eos": "</s>"},
    "llama2": {"type": "llama", "special": ["<s>", "</s>"], "bos": "<s>", "eos": "</s>"},
    "qwen2": {"special": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "eos": "<|im_end|>"},
    "qwen3": {
        "special": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        "plain": ["<think>", "</think>"],
        "eos": "<|im_end|>",
    },
    "llama3": {
        "type": "llama",
        "special": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "bos": "<|begin_of_text|>",
        "eos": "<|eot_id|>",
    },
    "llama4": {
        "special": ["<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>"],
        "bos": "<|begin_of_text|>",
        "eos": "<|eot|>",
    },
}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# a guard's template: long instructions, then the conversation, as Qwen3Guard and Llama Guard write it
GUARD = (
    "{{ OPEN }}# Task: rate the last message of the conversation by the policy below. Policy: be kind. {{ '\\n' }}"
    "<BEGIN CONVERSATION>{{ '\\n' }}{% for m in messages %}{{ m['role'] + ': ' }}"
    "{% if m['content'] is string %}{{ m['content'].split('</think>')[-1] | trim }}"
    "{% else %}{{ m['content'][0]['text'] | trim }}{% endif %}{{ '\\n' }}{% endfor %}"
    "<END CONVERSATION>{{ CLOSE }}{{ '\\n' }}"
)
TEMPLATES = {
    "qwen2": CHATML,
    "qwen3": GUARD.replace("{{ OPEN }}", "<|im_start|>user\n").replace("{{ CLOSE }}", "<|im_end|>"),
    "llama3": GUARD.replace("{{ OPEN }}", "<|begin_of_text|>").replace("{{ CLOSE }}", "<|eot_id|>"),
    "llama4": GUARD.replace("{{ OPEN }}", "<|begin_of_text|>").replace("{{ CLOSE }}", "<|eot|>"),
}


def tokenizer(family: str, lines: list[str]) -> PreTrainedTokenizerFast:
    """Bytes as tokens, the family's control tokens, and each of `lines` as one token that no text encodes to."""
    facts = FAMILIES[family]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole = ["".join(piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
                     .pre_tokenize_str(line)) for line in lines]  # fmt: skip
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *whole]
    vocab = {name: i for i, name in enumerate(dict.fromkeys(names))}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = level
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<pad>", *facts["special"]])
    inner.add_tokens(facts.get("plain", []))
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=facts["eos"], bos_token=facts.get("bos"), pad_token="<pad>",
        clean_up_tokenization_spaces=False, model_max_length=4096,
    )  # fmt: skip
    made.chat_template = TEMPLATES.get(family)
    return made


def _config(family: str, made: PreTrainedTokenizerFast, width: int) -> Any:
    kind = FAMILIES[family].get("type", family)
    text: dict[str, Any] = {
        "vocab_size": len(made), "hidden_size": width, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096,
        "pad_token_id": made.pad_token_id, "eos_token_id": made.eos_token_id, "bos_token_id": made.bos_token_id,
        "tie_word_embeddings": False,
    }  # fmt: skip
    if kind == "mistral":
        text["sliding_window"] = None
    if family != "llama4":
        return AutoConfig.for_model(kind, **text)
    text |= {"intermediate_size_mlp": 16, "num_local_experts": 1, "moe_layers": [], "attention_chunk_size": 64}
    vision = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 28,
        "patch_size": 14, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16,
    }  # fmt: skip
    return AutoConfig.for_model("llama4", text_config=text, vision_config=vision, image_token_index=0)


def generative(path: Path, family: str, lines: list[str], last: str = "\n") -> Path:
    """A judge whose greedy answer after a prompt that ends in `last` is `lines`, one token each, and the end token."""
    made = tokenizer(family, lines)
    width = 8 * (len(made) // 8 + 1)
    torch.manual_seed(0)
    build = AutoModelForImageTextToText if family == "llama4" else AutoModelForCausalLM
    model = build.from_config(_config(family, made, width), dtype=torch.float32).eval()
    ids = made(last, add_special_tokens=False)["input_ids"]
    whole = [made.convert_tokens_to_ids(_byte_level(line)) for line in lines]
    chain = [ids[-1], *whole, made.eos_token_id]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        embedding.zero_()
        embedding[:, : len(made)].fill_diagonal_(1.0)
        head.mul_(1e-3)
        for before, after in itertools.pairwise(chain):
            head[after, before] = 5.0
    model.save_pretrained(path)
    made.save_pretrained(path)
    return path


def _byte_level(line: str) -> str:
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(piece for piece, _ in level.pre_tokenize_str(line))


def classifier(path: Path, kind: str, labels: dict[int, str]) -> Path:
    """An encoder with a random head of two labels, and a tokenizer that adds its own first and last tokens."""
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<pad>", "[CLS]", "[SEP]"])
    ids = {t: inner.token_to_id(t) for t in ("[CLS]", "[SEP]")}
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=list(ids.items()))
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", cls_token="[CLS]", sep_token="[SEP]", model_max_length=512,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    config = AutoConfig.for_model(
        kind, vocab_size=len(made), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, id2label=labels, label2id={v: k for k, v in labels.items()},
        pad_token_id=made.pad_token_id,
    )  # fmt: skip
    if kind == "modernbert":
        config.classifier_pooling = "mean"
        config.cls_token_id, config.sep_token_id = made.cls_token_id, made.sep_token_id
        config.bos_token_id, config.eos_token_id = made.cls_token_id, made.sep_token_id
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(path)
    made.save_pretrained(path)
    return path
