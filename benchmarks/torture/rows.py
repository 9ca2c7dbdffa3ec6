"""What every part of the torture gets and gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Work(NamedTuple):
    """What a part is asked to do. `n`: how much, in what its module's `N` says; `folder`: its own, and empty;
    `seconds`: how long, for parts that go on for a time."""

    seed: int
    n: int
    folder: Path
    seconds: float = 20.0


class Row(NamedTuple):
    """One figure. `at_most`, `at_least`: what was promised of it; without both it is told and promises nothing."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the figure is as promised; a figure that is no number keeps no promise."""
        if self.at_most is None and self.at_least is None:
            return True
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= self.value <= high

    @property
    def promise(self) -> str:
        if self.at_most is not None and self.at_most == self.at_least:
            return f"{self.at_most:g}"
        told = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        told += [f"at most {self.at_most:g}"] if self.at_most is not None else []
        return ", ".join(told)


def none(what: str, value: float) -> Row:
    """A count that must be 0."""
    return Row(what, value, at_most=0, at_least=0)


def share(what: str, part: int, whole: int, *, at_least: float | None = None) -> Row:
    """A share in percent; of nothing it is no number, and keeps no promise."""
    return Row(what, 100 * part / whole if whole else math.nan, "%", at_least=at_least)


def table(rows: Sequence[tuple[str, Row]]) -> str:
    """The rows of all parts, aligned, broken promises marked."""
    cells = [("part", "what", "figure", "promised", "")]
    for part, row in rows:
        figure = f"{row.value:,.4g}" if row.value != int_or_none(row.value) else f"{int(row.value):,}"
        cells.append((part, row.what, f"{figure} {row.unit}".strip(), row.promise, "" if row.kept else "BROKEN"))
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    right = 2
    lines = (
        "  ".join(f"{cell:>{w}}" if i == right else f"{cell:<{w}}" for i, (cell, w) in enumerate(zip(line, widths)))
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def int_or_none(value: float) -> int | None:
    """The whole number that a figure is; None where it is none."""
    return int(value) if math.isfinite(value) and value == int(value) else None
