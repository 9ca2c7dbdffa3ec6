"""Any model from a folder of weights, through one net and one proof that what was loaded is what lies there.

The model under study, judges and translators are opened here; the weights are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from refusalctl.errors import ModelError
from refusalctl.json_types import JsonObject
from refusalctl.model.files import checkpoint, gguf_file, quantisation
from refusalctl.model.files.checkpoint import Checkpoint
from refusalctl.model.load_errors import loading, memory_of
from refusalctl.model.loaded_whole import Misfit, check_buffers, check_names, check_values
from refusalctl.model.padding import check_pad

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import Config, LanguageModel

META = "meta"  # the device of a model without numbers: names, shapes and settings are checked, no weight is read


class Opened(NamedTuple):
    """A model in eval mode, where it is to run, and what was done about its quantisation: None for plain weights."""

    model: LanguageModel
    quantization: JsonObject | None


class Wanted(NamedTuple):
    """How a model is to be opened.

    `autos`: names of transformers' classes that may open it, in order. `dtype`: None for the checkpoint's own.
    `pickled`: torch's own files will do where there are no safetensors. `quantise`: `nf4` or `int8`, by bitsandbytes.
    """

    autos: Sequence[str]
    device: str
    dtype: str | None
    trust_remote_code: bool = False
    attention: str = "auto"
    pickled: bool = False
    quantise: str | None = None


def open_config(folder: Path, what: str, trust_remote_code: bool = False) -> Any:
    """The settings of a model's architecture. Raises `ModelError`."""
    from transformers import AutoConfig

    checkpoint.check_small_files(folder)
    checkpoint.config(folder)
    with loading(what, folder):
        found = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    check_pad(found)
    return found


def open_weights(folder: Path, what: str, wanted: Wanted) -> Opened:
    """Load and prove a model. Raises `ModelError`, or `Misfit` where checkpoint and architecture differ.

    On the device `meta` all is checked that headers and settings show.
    """
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{what} holds an adapter beside or instead of a model", hint="merge it into its base model")
    config = open_config(folder, what, wanted.trust_remote_code)
    stored = checkpoint.read(folder, pickled=wanted.pickled)
    declared = quantisation.declared(folder)
    if wanted.quantise is not None:
        rounded = quantisation.method(declared) if declared is not None else gguf_file.scheme(folder)
        quantisation.while_loading(wanted.quantise, what, rounded)
    if declared is None:
        quantisation.refuse_undeclared(what, stored.tensors)
    else:
        quantisation.refuse_unknown(what, declared)
    classes = classes_for(config, what, wanted)
    for last, name in enumerate(classes, start=1 - len(classes)):
        try:
            return _open(name, config, folder, what, wanted, stored, declared)
        except Misfit as error:
            if last == 0 or error.missing:  # a text class may leave a wrapper's other parts unread
                raise
    raise AssertionError("there is always a last class")


def classes_for(config: Config, what: str, wanted: Wanted) -> list[str]:
    """Those of the wanted classes that know this architecture. Raises `ModelError` where none does."""
    import transformers

    remote = getattr(config, "auto_map", None) or {} if wanted.trust_remote_code else {}
    found = [n for n in wanted.autos if type(config) in getattr(transformers, n)._model_mapping or n in remote]
    if found:
        return found
    kind = getattr(config, "model_type", type(config).__name__)
    if getattr(config, "auto_map", None) and not wanted.trust_remote_code:
        raise ModelError(f"{what} brings code of its own", hint="add --trust-remote-code if you trust it")
    if wanted.autos[0] == "AutoModelForCausalLM":
        raise ModelError(
            f"{what} is a {kind!r} model, which does not write text from text alone",
            hint="give a decoder, or an image-and-text model that transformers opens as one",
        )
    raise ModelError(
        f"{what} is a {kind!r} model, which cannot be opened as {wanted.autos[0].removeprefix('AutoModelFor')}",
        hint="is it the model that is asked for?",
    )


def _open(
    auto: str,
    config: Config,
    folder: Path,
    what: str,
    wanted: Wanted,
    stored: Checkpoint,
    declared: JsonObject | None,
) -> Opened:
    import transformers

    meta = wanted.device == META
    memory = _check_memory(what, wanted, stored, declared)
    with loading(what, folder, memory=memory, hint=quantisation.needs(declared) if declared is not None else None):
        model, info = getattr(transformers, auto).from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, wanted.dtype) if wanted.dtype is not None else "auto",
            trust_remote_code=wanted.trust_remote_code,
            local_files_only=True,
            use_safetensors=stored.files[0].suffix == ".safetensors",  # others are unpickled
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below; the library says them to a log
            **_placement(wanted, declared),
            **({} if wanted.attention == "auto" else {"attn_implementation": wanted.attention}),
            **_quantised(wanted),
        )
    applied = _applied(model, what, declared, stored, wanted)
    check_names(model, info, stored, what, quantised=applied)
    if not meta:
        check_values(model, stored, what)
        check_buffers(model, config, what)
        with loading(what, memory=memory):
            if (applied is None or applied["dequantized"]) and wanted.device != "shard":
                model = model.to(wanted.device)
    return Opened(model.eval().requires_grad_(False), applied)


def _placement(wanted: Wanted, declared: JsonObject | None) -> JsonObject:
    if wanted.device == "shard":
        return {"device_map": "auto"}
    if wanted.device == META or declared is not None or wanted.quantise is not None:  # quantised: it cannot be moved
        return {"device_map": {"": wanted.device}}
    return {}


def _quantised(wanted: Wanted) -> dict[str, Any]:
    """bitsandbytes' settings; nothing on `meta`, where there are no numbers to quantise."""
    if wanted.quantise is None or wanted.device == META:
        return {}
    from transformers import BitsAndBytesConfig

    computed = getattr(torch, str(wanted.dtype))
    if wanted.quantise == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed)
    return {"quantization_config": nf4}


def _applied(
    model: LanguageModel, what: str, declared: JsonObject | None, stored: Checkpoint, wanted: Wanted
) -> JsonObject | None:
    """What transformers made of the declared scheme. Raises `ModelError` where it made nothing of it.

    Where a machine has no kernels for it, weights are multiplied out once, and then the model is a plain one.
    """
    if wanted.quantise is not None and wanted.device != META:
        if getattr(model, "hf_quantizer", None) is None:
            raise ModelError(f"{what} was not quantised to {wanted.quantise}", hint="update bitsandbytes")
        return {"method": f"bitsandbytes {wanted.quantise}", "dequantized": False}
    if declared is None:
        return None
    scheme = quantisation.method(declared)
    if getattr(model, "hf_quantizer", None) is not None:
        return {"method": scheme, "dequantized": False}
    undone = getattr(model.config, "quantization_config", None) is None
    if not undone or not quantisation.packed(stored.tensors):
        raise ModelError(
            f"{what} declares the quantisation {scheme!r}, "
            + ("which was not applied" if not undone else "but its weights are plain numbers"),
            hint=quantisation.needs(declared) if not undone else "is config.json that of this checkpoint?",
        )
    return {"method": scheme, "dequantized": True}


def _check_memory(what: str, wanted: Wanted, stored: Checkpoint, declared: JsonObject | None) -> str:
    """What is needed against what is free, in words. Raises `ModelError` where a GPU surely has no room for it."""
    if wanted.device in (META, "shard") or not stored.tensors:
        return ""
    size = getattr(torch, wanted.dtype).itemsize if wanted.dtype is not None and declared is None else None
    needed = sum(
        t.numel * size if size is not None and t.floating else t.end - t.start for t in stored.tensors.values()
    )
    words = memory_of(wanted.device, needed)
    if wanted.device.startswith("cuda") and declared is None and wanted.quantise is None:
        from refusalctl.model.batching import free

        free()
        if needed > torch.cuda.mem_get_info(torch.device(wanted.device))[0]:
            raise ModelError(
                f"{what} does not fit into memory: {memory_of(wanted.device, needed)}",
                hint="try --dtype bfloat16, a smaller model, a larger device, or --device shard",
            )
    return words


def open_tokenizer(folder: Path, what: str, trust_remote_code: bool = False, **settings: Any) -> Any:
    """The tokenizer of a folder. Raises `ModelError`, also for a folder without one: a library may make one up."""
    from transformers import AutoTokenizer

    checkpoint.check_small_files(folder)
    kinds = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt", "*.tiktoken", "*.spm", "tekken.json", "*.bpe")
    own_code = trust_remote_code and next(folder.glob("*.py"), None)
    if not own_code and not any(next(folder.glob(kind), None) for kind in kinds):
        raise ModelError(
            f"{what} has no tokenizer: none of {', '.join(kinds[:4])} is in {folder}",
            hint="copy the tokenizer's files of the model into it, or fetch it again",
        )
    with loading(f"the tokenizer of {what}", folder):
        return AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True, **settings
        )


def check_vocabulary(model: LanguageModel, tokenizer: Any, what: str) -> None:
    """Raise `ModelError` where the tokenizer's own words are more than the model has: it is that of another model.

    Tokens that were added to it are looked at where they occur.
    """
    embedding = model.get_input_embeddings()
    rows = getattr(getattr(embedding, "weight", None), "shape", (None,))[0]
    words = getattr(tokenizer, "vocab_size", None)
    if rows is not None and words is not None and words > rows:
        raise ModelError(
            f"the tokenizer of {what} has {words} tokens, the model embeds {rows}: it is that of another model",
            hint="copy the tokenizer's files that belong to the weights",
        )
