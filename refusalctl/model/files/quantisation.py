"""How a checkpoint says that its weights are quantised, read without loading it.

Numbers of another scheme than the one that is applied are numbers all the same: nothing fails, and every norm is wrong.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

from refusalctl.errors import ModelError
from refusalctl.json_types import Json, JsonObject
from refusalctl.model.files.checkpoint import StoredTensor, config, read_json, some

# settings of quantisers that transformers does not read
_ELSEWHERE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json", "quant_model_description.json")
_PACKED = ("I8", "U8", "I16", "I32")
SCALES = re.compile(
    r"(^|[._])(weight_scale(_inv|_2)?|input_scale|activation_scale|[kvqo]_scale|scale_inv|scales?|q?zeros|q?scales|"
    r"zero_points?|weight_zero_point|weight_packed|weight_shape|qweight|g_idx|absmax|quant_map|nested_absmax|"
    r"quant_state\.\S+|SCB|weight_format|blocks|weight_q|codebooks?|codes|bias_?q|lut|qdata)$"
)
# weights quantised while they are loaded, as `--dtype` names it (bitsandbytes): bits of one weight
BITS = {"nf4": 4, "int8": 8}
NEEDS = {
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "torchao": "torchao",
    "quanto": "optimum-quanto",
    "hqq": "hqq",
    "aqlm": "aqlm",
    "eetq": "kernels",
    "mxfp4": "kernels",
    "auto-round": "auto-round",
    "quark": "amd-quark",
    "fp_quant": "fp_quant",
    "vptq": "vptq",
    "spqr": "spqr_quant",
    "higgs": "flute-kernel",
    "bitnet": "accelerate",
    "sinq": "sinq",
}


def declared(folder: Path) -> JsonObject | None:
    """What config.json says of quantisation, for the model or its text part: None for plain weights.

    Raises `ModelError` where another file speaks of it and config.json does not, or where it names no scheme.
    """
    settings = config(folder)
    parts = [settings, *(settings.get(name) for name in ("text_config", "llm_config", "language_config"))]
    found = [
        part["quantization_config"] for part in parts if isinstance(part, dict) and part.get("quantization_config")
    ]
    if settings.get("compression_config") and not found:
        found = [settings["compression_config"]]
    if not found:
        for name in _ELSEWHERE:
            if (folder / name).is_file():
                scheme = _scheme_elsewhere(read_json(folder / name))
                raise ModelError(
                    f"{folder} is quantised{scheme} by {name}, which config.json does not declare: "
                    "its numbers would be taken for weights",
                    hint="give the model in bfloat16, float16 or float32",
                )
        return None
    if not isinstance(found[0], dict) or not method(found[0]):
        raise ModelError(f"{folder}: config.json declares a quantisation without saying which (quant_method)")
    return dict(found[0])


def method(settings: Mapping[str, Json]) -> str:
    """The name of a scheme, as transformers tells them apart."""
    for name in ("4bit", "8bit"):
        if settings.get(f"load_in_{name}"):
            return f"bitsandbytes_{name}"
    return str(settings.get("quant_method") or "")


def _scheme_elsewhere(settings: Mapping[str, Json]) -> str:
    inner = settings.get("quantization", settings)
    named = inner.get("quant_algo") or inner.get("quant_method") if isinstance(inner, dict) else None
    return f" ({named})" if named else ""


def packed(tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Weights that are stored as packed or 8-bit numbers."""
    return [
        n
        for n, t in tensors.items()
        if t.dtype.startswith(("F8_", "F6_", "F4"))
        or (t.dtype in _PACKED and len(t.shape) > 1 and n.endswith(("weight", "proj", "_blocks")))
        or re.search(r"(^|\.)(qweight|weight_packed)$", n)
    ]


def refuse_undeclared(name: str, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise `ModelError` for a checkpoint that declares nothing and holds weights in packed or 8-bit numbers."""
    found = packed(tensors)
    if found:
        scales = [n for n in tensors if SCALES.search(n)]
        beside = f" beside scales that nothing reads ({some(scales, 2)})" if scales else ""
        kinds = ", ".join(sorted({tensors[n].dtype for n in found}))
        raise ModelError(
            f"{name} is quantised, but config.json declares no scheme: {len(found)} weights are {kinds} numbers "
            f"({some(found)}){beside}",
            hint="give the model in bfloat16, float16 or float32, or with its quantization_config",
        )


def refuse_unknown(name: str, settings: Mapping[str, Json]) -> None:
    """Raise `ModelError` for a scheme that transformers does not know: it would skip it, and load the raw numbers."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    if method(settings) not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise ModelError(
            f"{name} is quantised by the scheme {method(settings)!r}, which transformers does not know",
            hint="give the model in bfloat16, float16 or float32, or by a scheme of transformers",
        )


def while_loading(dtype: str, name: str, rounded: str | None) -> None:
    """Raise `ModelError` where weights cannot be quantised as `dtype` asks: without bitsandbytes, or a second time."""
    if dtype not in BITS:
        return
    if rounded is not None:
        raise ModelError(
            f"{name} is quantised by {rounded!r} already: --dtype {dtype} would round it a second time",
            hint="leave --dtype out, or give the model in bfloat16, float16 or float32",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"--dtype {dtype} needs the package bitsandbytes", hint="run `pip install refusalctl[quantised]`"
        )


def warning(name: str, spec: str, dtype: str, rounded: str | None) -> str | None:
    """What a user of quantised weights should know, with the command that measures it; None for plain weights."""
    doctor = f"refusalctl doctor --precision --model {spec}"
    if dtype in BITS:
        return (
            f"{name} was quantised to {dtype} while it was loaded: activations, directions and answers are those of "
            f"the quantised model; `{doctor} --dtype {dtype}` measures how far they are from float32"
        )
    if rounded is not None:
        return (
            f"{name} is quantised ({rounded}): activations, directions and answers are those of the quantised model; "
            f"`{doctor} --against ORIGINAL` measures how far they are from it"
        )
    return None


def needs(settings: Mapping[str, Json]) -> str:
    """What helps where a known scheme does not load."""
    package = NEEDS.get(method(settings))
    install = f"`pip install {package}` (it may need a GPU), or " if package else ""
    return f"{install}give the model in bfloat16, float16 or float32"
