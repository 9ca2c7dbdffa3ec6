"""Weights and tokenizer of a resolved model, ready to be recorded and intervened on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from refusalctl.errors import BadInput, ModelError
from refusalctl.json_types import JsonObject
from refusalctl.model.adapter import check_fit, with_adapter
from refusalctl.model.chat import Chat, open_chat
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files import quantisation
from refusalctl.model.files.resolve import ModelRef, unchanged, weights
from refusalctl.model.load_errors import loading
from refusalctl.model.pretrained import (
    META,
    Wanted,
    check_vocabulary,
    classes_for,
    open_config,
    open_tokenizer,
    open_weights,
)
from refusalctl.model.reasoning import Asked
from refusalctl.model.residual import find_blocks, text_config
from refusalctl.model.wrappers import AUTOS, check_text_path, is_wrapper

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import Config, Tokenizer

DType = Literal["auto", "float32", "bfloat16", "float16", "nf4", "int8"]
DTYPES: tuple[DType, ...] = ("auto", "float32", "bfloat16", "float16", "nf4", "int8")


def pick_device(device: str, *, shard: bool = False) -> str:
    """`auto` is the first accelerator, else the CPU; `shard` spreads a model over all devices (accelerate).

    It stays that word where `shard` says so; else it is where its first part lies.
    """
    if device == "shard" and shard:
        return device
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
    """`auto` is float32 on a CPU and bfloat16 elsewhere. Resolved before it enters a recipe key.

    `nf4` and `int8` quantise plain weights by bitsandbytes while they are loaded."""
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
    """Load weights from local files, and prove that they are what was asked for.

    Raises `ModelError` if they cannot be read as a causal model, or are not all that there is. `attention` is
    transformers' name of a kernel (`sdpa`, `eager`, `flash_attention_2`), or `auto`: what it takes by itself.
    """
    from transformers import GenerationConfig

    ref = weights(ref)
    opened = open_weights(ref.folder, ref.name, _wanted(ref, pick_device(device, shard=True), dtype, attention))
    tokenizer = _open_tokenizer(ref)
    model = opened.model
    if ref.adapter is not None:
        model = with_adapter(model, ref.adapter, ref.name, quantised=opened.quantization is not None)
    check_vocabulary(model, tokenizer, ref.name)
    unchanged(ref)
    if model.device.type == "cuda":
        torch.cuda.set_device(model.device)  # streams, events and recordings are those of the current device
    _check_end(model.generation_config.eos_token_id, ref.name)
    # greedy means greedy: some models ship a repetition penalty in their generation settings
    model.generation_config = GenerationConfig(
        eos_token_id=model.generation_config.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    loaded = ChatModel(model, tokenizer, system, quantization=opened.quantization, thinking=thinking)
    if is_wrapper(model):
        check_text_path(loaded, ref.name)
    return loaded


def foresee(ref: ModelRef, *, dtype: str = "auto", attention: str = "auto") -> None:
    """Raise what `load` would raise, as far as settings and headers show it: no weight is read.

    Of a hub model whose weights are not here yet, only its settings and its tokenizer are looked at.
    """
    found = ref if ref.base is None else ref.base
    if found.hub:
        config = open_config(ref.folder, ref.name, ref.trust_remote_code)
        quantised = quantisation.declared(ref.folder)
        if quantised is not None:
            quantisation.refuse_unknown(ref.name, quantised)
        classes_for(config, ref.name, _wanted(ref, META, dtype, attention))
        _open_tokenizer(ref)
        return
    opened = open_weights(ref.folder, ref.name, _wanted(ref, META, dtype, attention))
    _check_end(opened.model.generation_config.eos_token_id, ref.name)
    find_blocks(opened.model, text_config(opened.model).num_hidden_layers)
    check_vocabulary(opened.model, _open_tokenizer(ref), ref.name)
    if ref.adapter is not None:
        check_fit(opened.model, ref.adapter, ref.name, quantised=opened.quantization is not None)


def _check_end(ids: object, name: str) -> None:
    """Raise `ModelError` for a token that ends answers and is none: they would not end, or fail late."""
    listed = ids if isinstance(ids, list) else [ids]
    if not all(each is None or (isinstance(each, int) and each >= 0) for each in listed):
        raise ModelError(
            f"{name}: generation_config.json says that answers end in the token {ids!r}, expected a number or several",
            hint="correct eos_token_id there, or fetch the file again",
        )


def _wanted(ref: ModelRef, device: str, dtype: str, attention: str) -> Wanted:
    number = pick_dtype(dtype, "auto" if device in (META, "shard") else device)
    quantise = number if number in quantisation.BITS else None
    if quantise is not None:  # what is multiplied: the plain dtype of the device
        number = pick_dtype("auto", "auto" if device in (META, "shard") else device)
    return Wanted(AUTOS, device, number, ref.trust_remote_code, attention, quantise=quantise)


def small(ref: ModelRef, system: str | None = None, thinking: Asked = "auto") -> tuple[Config, Chat]:
    """Configuration and chat template without the weights, from files that a dry run has."""
    config = open_config(ref.folder, ref.name, ref.trust_remote_code)
    tokenizer = _open_tokenizer(ref)
    return config, open_chat(tokenizer, system, getattr(config.get_text_config(), "vocab_size", None), thinking)


def _open_tokenizer(ref: ModelRef) -> Tokenizer:
    """The tokenizer, with the chat template that the recipe names."""
    tokenizer = _own_tokenizer(ref.tokenizer, ref.trust_remote_code)
    if ref.template_source:
        tokenizer.chat_template = ref.template_source
    return tokenizer


def _own_tokenizer(folder: Path, trust_remote_code: bool) -> Tokenizer:
    """The tokenizer that `tokenizer.json` describes, where there is one.

    transformers 5 replaces the class of some model types (Qwen2, Phi-3, ...) whatever the folder says; with a
    vocabulary of one's own every word then becomes unknown or vanishes, without a warning.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    found = open_tokenizer(folder, folder.name, trust_remote_code)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return found
    with loading(f"the tokenizer of {folder.name}", folder):
        published = Tokenizer.from_file(str(file))
    # a word of the vocabulary itself: artificial ones know none of a real language's
    words = [w for w in sorted(published.get_vocab()) if w.isalpha()][:3]
    if all(
        found(text, add_special_tokens=False)["input_ids"] == published.encode(text, add_special_tokens=False).ids
        for text in (*words, "Why is the sky blue?")
    ):
        return found
    with loading(f"the tokenizer of {folder.name}", folder):
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def versions() -> JsonObject:
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
