"""Fixtures: an empty home for caches and data, and tiny models."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A killed process loses nothing that it wrote; only a machine without power does, and no test cuts that. Waiting for
# the disk, 621 times in a matrix of one source and two targets, takes longer than the matrix.
os.fsync = lambda _number: None  # type: ignore[assignment]

from jaxtyping import install_import_hook

PACKAGE = Path(__file__).resolve().parents[1] / "refusalctl"
# Triton compiles the first from its source; the second's generator would no longer be seen as one by `inference_mode`;
# the others record on a GPU alone, and name types that are imported for type checking only
UNCHECKED = {
    "refusalctl.model.savings.kernels",
    "refusalctl.model.generate",
    "refusalctl.model.savings.cuda_graphs",
    "refusalctl.model.savings.decoding_graph",
}


def shaped() -> list[str]:
    """Modules whose signatures carry shapes."""
    files = (p for p in sorted(PACKAGE.rglob("*.py")) if "from jaxtyping import" in p.read_text(encoding="utf-8"))
    return [".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in files]


# shapes in signatures are checked while tests run
_HOOK = install_import_hook([name for name in shaped() if name not in UNCHECKED], "beartype.beartype")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test sees the user's data or store; the model cache stays, it is checked by digest."""
    place = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("REFUSALCTL_DATA_DIR", str(place / "data"))
    monkeypatch.setenv("REFUSALCTL_STORE", str(place / "store"))
    monkeypatch.delenv("REFUSALCTL_MODEL", raising=False)
    monkeypatch.delenv("REFUSALCTL_DATA", raising=False)
    from refusalctl.data import sets

    sets.prompts.cache_clear()
    yield place
    sets.prompts.cache_clear()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama on disk."""
    from tests import tiny

    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def asked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of documents and examples that ask the same question: only the first of them computes. Tests that take
    it stand in the xdist group `documents`."""
    return tmp_path_factory.mktemp("documents") / "store"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that are marked `gpu` are left out where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What was imported and collected stays for good: full collections, which `free` asks for, need not walk it."""
    gc.collect()
    gc.freeze()
