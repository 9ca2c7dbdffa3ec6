"""What the benchmarks' command lines share. The standard library is enough: peers' environments have nothing else."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A command line whose help begins with the module's docstring."""
    name = Path(sys.argv[0]).stem
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def comma_list(text: str) -> list[str]:
    return text.split(",")


def add_out(to: argparse.ArgumentParser) -> None:
    to.add_argument("--out", type=Path, help="where the figures go as JSON")


def write_figures(path: Path | None, value: Any) -> None:
    """The figures as JSON, where a place was asked for."""
    if path is not None:
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
