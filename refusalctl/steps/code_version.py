"""Which code computes: for `run.json`."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from refusalctl.json_types import JsonObject


@cache
def code_version() -> JsonObject:
    """This package's version, and where it runs from a checkout the commit; asked once, for the code that is loaded."""
    from refusalctl.version import __version__

    top = Path(__file__).resolve().parents[2]
    version: JsonObject = {"refusalctl": __version__}
    if not (top / ".git").exists():
        return version
    head = subprocess.run(["git", "-C", str(top), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        ["git", "-C", str(top), "status", "--porcelain", "--", "refusalctl"],
        capture_output=True,
        text=True,
        check=False,
    )
    if head.returncode == 0:
        version |= {"commit": head.stdout.strip(), "dirty": bool(dirty.stdout.strip())}
    return version
