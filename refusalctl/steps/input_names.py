"""Names of a step's inputs where one role has many: `labels:en>de` is the role `labels` of the cell `en>de`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

Role = Literal[
    "selection",
    "completions",
    "labels",
    "harmless",
    "unpaired",
    "comprehension",
    "controls",
    "means",
    "transfer",
    "geometry",
    "cost",
]
T = TypeVar("T")


def input_name(role: Role, key: object) -> str:
    return f"{role}:{key}"


def named(role: Role, by_key: Mapping[str, T]) -> dict[str, T]:
    """Inputs of one role, under their names."""
    return {input_name(role, key): value for key, value in by_key.items()}


def inputs_of(role: Role, inputs: Mapping[str, T]) -> dict[str, T]:
    """What has this role, by key."""
    start = input_name(role, "")
    return {name.removeprefix(start): value for name, value in inputs.items() if name.startswith(start)}
