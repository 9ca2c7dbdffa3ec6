"""Tables of answers and labels as other tools read them: named columns of one type each, rows of plain values.

Without texts a row has the SHA-256 of its prompt and answer instead, so that two people can tell whether they hold the
same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Type = Literal["text", "integer", "number", "boolean"]
Value = str | int | float | bool | None


@dataclass(frozen=True)
class RowTable:
    """One configuration of a data set. `columns`: type by name, in order; `meanings`: what each holds, in words."""

    name: Literal["completions", "labels"]
    columns: Mapping[str, Type]
    meanings: Mapping[str, str]
    rows: list[dict[str, Value]]


@dataclass(frozen=True)
class Told:
    """What a card says beside the tables, all of it read from artifacts or told by the user.

    `imported`: whether answers or labels came from somebody's files, so that how they were made is not known.
    `licence`: None where nobody said it. `written`: the day on which the newest artifact was written, YYYY-MM-DD.
    """

    name: str
    models: tuple[str, ...]
    langs: tuple[str, ...]
    prompt_sets: tuple[str, ...]
    judges: tuple[str, ...]
    interventions: tuple[str, ...]
    artifacts: tuple[str, ...]
    texts: bool
    imported: bool
    written: str
    licence: str | None = None
    made_by: str = "refusalctl"
    notes: tuple[str, ...] = field(default=())


def text_digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
