"""Where a model organism's files are: built into the cache on first use, without importing torch before that."""

from __future__ import annotations

import hashlib
import tempfile
from functools import cache
from pathlib import Path

from filelock import FileLock

from refusalctl.model.files import embedded
from refusalctl.organisms.designs import PREFIX, Organism, parse

__all__ = ["PREFIX", "folder", "parse"]


@cache
def _build() -> str:
    """Digest of the code that says what an organism is, so that no cached one outlives a change of it."""
    here = Path(__file__)
    sources = [here.with_name("organism_weights.py"), *sorted((here.parents[2] / "organisms").glob("*.py"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def folder(organism: Organism) -> Path:
    """The organism's folder as transformers reads it."""
    found = embedded.cache_dir() / "organisms" / f"{organism.name.removeprefix(PREFIX).replace(':', '-')}-{_build()}"
    if (found / "config.json").is_file():
        return found
    found.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{found}.lock"):
        if not (found / "config.json").is_file():
            from refusalctl.model.files.organism_weights import build

            with tempfile.TemporaryDirectory(dir=found.parent, prefix=".building-") as room:
                build(organism, Path(room) / "model")
                (Path(room) / "model").rename(found)
    return found
