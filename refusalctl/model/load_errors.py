"""One net for what foreign libraries throw while a model's files are read: one line each, with the cause chained.

Our own mistakes are not caught: an error whose last frame is in this package keeps its traceback.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refusalctl.disk import gigabytes
from refusalctl.errors import ModelError, RefusalctlError
from refusalctl.model.files import checkpoint

_PACKAGE = str(Path(__file__).resolve().parents[1])
_MOST = 240  # characters of a library's own words
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|cannot allocate memory", re.IGNORECASE)
_UNKNOWN_TYPE = re.compile(r"model type `?'?([^`']+)`?'? but Transformers does not recognize")


@contextmanager
def quiet() -> Iterator[None]:
    """No bars, warnings or words of transformers, huggingface_hub and of code that a model brings.

    What they were set to is restored: in a notebook they are the reader's.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def loading(what: str, folder: Path | None = None, *, memory: str = "", hint: str | None = None) -> Iterator[None]:
    """Hold only calls of foreign libraries inside: whatever they throw becomes a `ModelError` about `what`.

    `memory`: how much is needed against what is free, said where memory runs out; `hint`: what to do about the rest.
    """
    with quiet():
        try:
            yield
        except RefusalctlError:
            raise
        except Exception as error:
            if _is_ours(error):
                raise
            raise explained(error, what, folder, memory=memory, hint=hint) from error


def _is_ours(error: BaseException) -> bool:
    """Whether it was thrown by code of this package, not by what it called."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_code.co_filename.startswith(_PACKAGE)


def explained(
    error: Exception, what: str, folder: Path | None = None, *, memory: str = "", hint: str | None = None
) -> ModelError:
    """The one line for a foreign error: its cause in the files where that can be seen, else its own words."""
    text = str(error).strip()
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        more = f": {memory}" if memory else ""
        return ModelError(
            f"{what} does not fit into memory{more}",
            hint="try --dtype bfloat16, a smaller model, a larger device, or --device shard",
        )
    broken = checkpoint.damage(folder) if folder is not None else None
    if broken is not None:
        return broken
    unknown = _UNKNOWN_TYPE.search(text)
    if unknown:
        return _unknown(f"{what} is of the model type {unknown[1]!r}", "model_type")
    named = _unknown_setting(error, folder)
    if named is not None:
        return _unknown(f"{what} asks in config.json for {named}", named.partition(" ")[0])
    if "trust_remote_code" in text:
        return ModelError(f"{what} brings code of its own", hint="add --trust-remote-code if you trust it")
    if isinstance(error, ImportError):
        hint = hint or "install what is missing"
    return ModelError(f"{what} cannot be loaded: {_words(error)}", hint=hint)


def _unknown(asked: str, setting: str) -> ModelError:
    import transformers

    return ModelError(
        f"{asked}, which transformers {transformers.__version__} does not know",
        hint=f"a newer one may: `pip install -U transformers`; or is {setting} in config.json wrong?",
    )


def _unknown_setting(error: Exception, folder: Path | None) -> str | None:
    """`hidden_act 'mystery'` where a library looked up what config.json says and does not have it."""
    if isinstance(error, KeyError) and error.args:
        sought = error.args[0]
    elif isinstance(error, AttributeError):  # a dtype is looked up in torch
        sought = error.name
    else:
        return None
    if folder is None or not isinstance(sought, str) or not (folder / "config.json").is_file():
        return None
    names = list(dict.fromkeys(_said(checkpoint.config(folder), sought)))
    return f"{' and '.join(names)} {sought!r}" if names else None


def _said(value: object, sought: str, name: str = "") -> Iterator[str]:
    """Names of the settings, of parts with a dot, whose value is `sought`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _said(inner, sought, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _said(inner, sought, name)
    elif value == sought:
        yield name


def _words(error: Exception) -> str:
    """A library's own words in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines[:2])[:_MOST] if lines else "without a reason"
    named = isinstance(error, OSError | ValueError | ImportError | RuntimeError)
    return told if named and lines else f"{type(error).__name__}: {told}"


def memory_of(device: str, needed: int) -> str:
    """How many bytes weights need against what a device has free, in words; empty where nobody knows."""
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        free = torch.cuda.mem_get_info(torch.device(device))[0]
        return f"about {gigabytes(needed)} are needed for its weights, {gigabytes(free)} are free on {device}"
    if device == "cpu" and Path("/proc/meminfo").is_file():
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
        if found:
            free = int(found[1]) * 1024
            return f"about {gigabytes(needed)} are needed for its weights, {gigabytes(free)} are free"
    return f"about {gigabytes(needed)} are needed for its weights"
