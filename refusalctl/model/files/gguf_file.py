"""GGUF files: weights that were quantised for llama.cpp, multiplied out once into a folder of the cache."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections import Counter
from pathlib import Path

from refusalctl.disk import build_folder, given_path
from refusalctl.errors import ModelError

SUFFIX = ".gguf"
PREFIX = "gguf-"  # of revisions
CONVERSION = 2  # raise when `convert` changes what it writes
TYPES = "gguf_types.json"  # in the folder that was made: types of the file's matrices
PLAIN = ("F64", "F32", "F16", "BF16")
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
UNWRITABLE = "name a folder that you may write to with REFUSALCTL_CACHE"


def named(spec: str) -> Path | None:
    """The GGUF file that a text names, None where it names something else. Raises `ModelError` for one of several,
    and for a file that is none."""
    if not spec.endswith(SUFFIX):
        return None
    path = given_path(spec, "--model")
    if not path.is_file():
        raise ModelError(f"there is no file {spec}", hint="give a GGUF file, a folder, or a Hugging Face id")
    if _PART.search(path.name):
        raise ModelError(f"{path.name} is one part of several", hint="join them first: llama-gguf-split --merge")
    with path.open("rb") as content:
        if content.read(4) != b"GGUF":
            raise ModelError(f"{path.name} is no GGUF file", hint="fetch it again; is it a git-lfs pointer?")
    return path.resolve()


def folder(path: Path, digest: str, cache: Path) -> Path:
    """The file with this digest as a folder of float32 weights in the cache, made on first use.

    Raises `ModelError` for a file that is damaged, or of an architecture that transformers does not read from one.
    """
    made = cache / revision(digest)
    return build_folder(made, "config.json", lambda target: convert(path, target), UNWRITABLE)


def revision(digest: str) -> str:
    return f"{PREFIX}{digest[:32]}-v{CONVERSION}"


def scheme(made: Path) -> str | None:
    """How the weights of a folder that was made from a GGUF file were rounded: None for plain numbers, and for any
    other folder."""
    if not (made / TYPES).is_file():
        return None
    found = [name for name in json.loads((made / TYPES).read_text(encoding="utf-8")) if name not in PLAIN]
    return f"GGUF {', '.join(found)}" if found else None


def convert(path: Path, target: Path) -> None:
    """Dequantise into float32 safetensors. A fresh model takes the weights: transformers refuses to save a
    model that it read from GGUF."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from refusalctl.model.load_errors import loading

    # its reader draws a bar of its own, which no setting of transformers turns off
    with loading(f"the GGUF file {path.name}"), contextlib.redirect_stderr(io.StringIO()):
        source = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        settings = {k: v for k, v in source.config.to_dict().items() if k != "quantization_config"}
        fresh = AutoModelForCausalLM.from_config(type(source.config)(**settings), dtype=torch.float32)
        fresh.load_state_dict(source.state_dict())
        fresh.save_pretrained(target)
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(target)
        (target / TYPES).write_text(json.dumps(_types(path)), encoding="utf-8")


def _types(path: Path) -> list[str]:
    """Types of the matrices, the most frequent first."""
    from gguf import GGUFReader

    counted = Counter(each.tensor_type.name for each in GGUFReader(path).tensors if len(each.shape) > 1)
    return [name for name, _ in counted.most_common()]
