"""Table of decoder families with the largest deviation of three proofs of exactness (docs/architectures.md).

`python -m benchmarks.architectures` from the repository's root; tiny random models, about a minute on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from benchmarks import command
from tests import exactness
from tests.exactness import DTYPES, KINDS
from tests.families import FAMILIES, direction

NAMES = [str(dtype).removeprefix("torch.") for dtype in DTYPES]


def row(name: str) -> tuple[str, ...]:
    """Family, its writes, then for each dtype: recorded, left over, against edited weights."""
    cells = []
    for dtype in DTYPES:
        model = exactness.chat_model(name, dtype)
        asked = exactness.interventions(dtype)
        left = max(exactness.left_over(name, model, asked[kind]) for kind in KINDS)
        weights = exactness.against_weights(name, model, direction())
        cells += [number(exactness.recorded(model)), number(left), "–" if weights is None else number(weights)]
    writes = " / ".join(dict.fromkeys(", ".join(f"`{w}`" for w in names) for names in model.residual.write_names))
    return (name, writes, *cells)


def number(value: float) -> str:
    return "0" if value == 0.0 else f"{value:.0e}"


def table() -> Iterator[str]:
    """The table's lines in Markdown, then why some families have no weights to compare with."""
    heads = [f"{what} {dtype}" for dtype in NAMES for what in ("(1)", "(2)", "(3)")]
    yield "| " + " | ".join(["family", "writes", *heads]) + " |"
    yield "|" + "---|" * (2 + len(heads))
    for name in FAMILIES:
        yield "| " + " | ".join(row(name)) + " |"
    yield ""
    reasons: dict[str, list[str]] = {}
    for name, family in FAMILIES.items():
        if family.reason:
            reasons.setdefault(family.reason, []).append(name)
    for reason, names in reasons.items():
        yield f"- {', '.join(names)}: {reason}."


@torch.no_grad()
def main() -> None:
    command.parser(__doc__).parse_args()
    from transformers.utils import logging

    logging.set_verbosity_error()
    for line in table():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
