"""Where a model organism's files are: built into the cache on first use, without importing torch before that."""

from __future__ import annotations

import hashlib
from functools import cache, partial
from pathlib import Path

from refusalctl.disk import build_folder
from refusalctl.model.files import embedded
from refusalctl.model.files.gguf_file import UNWRITABLE
from refusalctl.organisms.designs import PREFIX, Organism, parse

__all__ = ["PREFIX", "folder", "parse"]


@cache
def _build() -> str:
    """Digest of the code that says what an organism is, so that no cached one outlives a change of it."""
    here = Path(__file__)
    sources = [*sorted(here.parent.glob("organism_*.py")), *sorted((here.parents[2] / "organisms").glob("*.py"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def folder(organism: Organism) -> Path:
    """The organism's folder as transformers reads it."""
    found = embedded.cache_dir() / "organisms" / f"{organism.name.removeprefix(PREFIX).replace(':', '-')}-{_build()}"
    return build_folder(found, "config.json", partial(_make, organism), UNWRITABLE)


def _make(organism: Organism, folder: Path) -> None:
    from refusalctl.model.files.organism_weights import build

    build(organism, folder)
