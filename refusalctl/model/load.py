"""Weights and tokenizer of a resolved model, ready to be recorded and intervened on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any, Literal

import torch

from refusalctl.errors import BadInput, ModelError
from refusalctl.model.chat import Chat, open_chat
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files import embedded
from refusalctl.model.files.resolve import ModelRef, weights
from refusalctl.model.reasoning import Asked

DType = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES: tuple[DType, ...] = ("auto", "float32", "bfloat16", "float16")


def pick_device(device: str) -> str:
    """`auto` is the first accelerator, else the CPU; `shard` spreads a model over all devices (accelerate)."""
    if device in ("auto", "shard"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise BadInput(f"the device {device!r} cannot be used ({reason})", hint="try auto or cpu") from error
    return device


def pick_dtype(dtype: str, device: str) -> str:
    """`auto` is float32 on a CPU and bfloat16 elsewhere. Resolved before it enters a recipe key."""
    if dtype not in DTYPES:
        raise BadInput(f"dtype {dtype!r} is not known", hint=f"choose among {', '.join(DTYPES)}")
    if dtype != "auto":
        return dtype
    return "float32" if pick_device(device) == "cpu" else "bfloat16"


def load(
    ref: ModelRef,
    *,
    device: str = "auto",
    dtype: str = "auto",
    system: str | None = None,
    attention: str = "auto",
    thinking: Asked = "auto",
) -> ChatModel:
    """Load weights from local files. Raises `ModelError` if they cannot be read as a causal model.

    `attention` is transformers' name of a kernel (`sdpa`, `eager`, `flash_attention_2`), or `auto`: what it takes for
    this architecture.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = weights(ref)
    options: dict[str, Any] = {"device_map": "auto"} if device == "shard" else {}
    if attention != "auto":
        options["attn_implementation"] = attention
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, pick_dtype(dtype, device)),
            trust_remote_code=ref.trust_remote_code,
            local_files_only=True,
            use_safetensors=True,  # other formats are unpickled, and are not part of the revision
            **options,
        )
        tokenizer = _open_tokenizer(folder, ref.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        hint = (
            "it brings code of its own: add --trust-remote-code if you trust it" if "trust_remote" in reason else None
        )
        raise ModelError(f"{ref.name} cannot be loaded: {reason}", hint=hint) from error
    if ref.name in embedded.ADAPTED:
        model = _with_adapter(model, ref.name)
    if device != "shard":
        model = model.to(pick_device(device))
        if model.device.type == "cuda":
            torch.cuda.set_device(model.device)  # streams, events and recordings are those of the current device
    # greedy means greedy: some models ship a repetition penalty in their generation settings
    model.generation_config = GenerationConfig(
        eos_token_id=model.generation_config.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return ChatModel(model.eval().requires_grad_(False), tokenizer, system, thinking=thinking)


def small(ref: ModelRef, system: str | None = None, thinking: Asked = "auto") -> tuple[Any, Chat]:
    """Configuration and chat template without the weights, from files that a dry run has."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(ref.folder, trust_remote_code=ref.trust_remote_code, local_files_only=True)
    tokenizer = _open_tokenizer(ref.folder, ref.trust_remote_code)
    return config, open_chat(tokenizer, system, getattr(config.get_text_config(), "vocab_size", None), thinking)


def _open_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """The tokenizer that `tokenizer.json` describes, where there is one.

    transformers 5 replaces the class of some model types (Qwen2, Phi-3, ...) whatever the folder says; with a
    vocabulary of one's own every word then becomes unknown or vanishes, without a warning.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    found = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return found
    published = Tokenizer.from_file(str(file))
    # a word of the vocabulary itself: artificial ones know none of a real language's
    words = [w for w in sorted(published.get_vocab()) if w.isalpha()][:3]
    if all(
        found(text, add_special_tokens=False)["input_ids"] == published.encode(text, add_special_tokens=False).ids
        for text in (*words, "Why is the sky blue?")
    ):
        return found
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def _with_adapter(model: Any, name: str) -> Any:
    import warnings

    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an attribute of its old name
        return PeftModel.from_pretrained(model, embedded.adapter_dir(name)).merge_and_unload()


def versions() -> dict[str, Any]:
    """Library versions, threads and machine: what may change the last bits of a result."""
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }
