"""Stores with small lineages, an S3 server, a stand-in for the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.store.store import Artifact, Store
from tests.fake_hub import hub
from tests.s3 import s3, s3_address

__all__ = ["hub", "s3", "s3_address"]


def put(store: Store, kind: str, content: bytes, *inputs: Artifact, **params: object) -> Artifact:
    """An artifact of one file, made from others."""
    recipe = {"step": "test", "version": 1, "params": params, "inputs": {f"in{n}": a.id for n, a in enumerate(inputs)}}
    with store.draft() as draft:
        (draft / "rows.bin").write_bytes(content)
        return store.commit(draft, kind, recipe, {"lang": "be", "model": "tiny", "n": 3}, {"seconds": 1.0})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Prompts, activations of them, a selection of these called `native`, and labels that are none of its lineage."""
    made = Store(tmp_path / "ours")
    prompts = put(made, "prompts", b"p" * 100)
    selection = put(made, "selection", b"s" * 300, put(made, "activations", b"a" * 200_000, prompts))
    put(made, "labels", b"l" * 50)
    made.name("native", selection)
    return made


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "theirs")


def contents(store: Store) -> dict[str, bytes]:
    """Every file of every artifact, by its path in the store."""
    homes = (store.root / kind / identifier for kind, identifier in store.folders())
    files = (path for home in homes for path in sorted(home.iterdir()))
    return {str(path.relative_to(store.root)): path.read_bytes() for path in files}
