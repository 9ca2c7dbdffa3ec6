"""What is said of a setting: its type, a value that does not fit, a name that is close."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin


def type_name(kind: Any) -> str:
    """A setting's type for people: `a whole number`, `a list of numbers`, `true or false`, `a text`."""
    if get_origin(kind) is Annotated:
        return type_name(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    parts = [a for a in get_args(kind) if a is not type(None)]
    if get_origin(kind) is tuple:
        return {int: "a list of whole numbers", float: "a list of numbers", str: "a list of texts"}[get_args(kind)[0]]
    if parts:
        return type_name(parts[0])
    names: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind) or str(kind.__name__)


def misfit(name: str, value: object, kind: Any, problem: str) -> str:
    """`n_train is 0, expected a whole number of at least 1`; `problem` is msgspec's complaint."""
    least = re.search(r">= (\d+)", problem)
    huge = isinstance(value, int) and value.bit_length() > 64  # longer ones cannot even be written out
    shown = "a number beyond 64 bits" if huge else repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:60]}..."
    near = meant(value, get_args(kind)) if get_origin(kind) is Literal and isinstance(value, str) else ""
    told = f"{name} is {shown}, expected {type_name(kind)}" + (f" of at least {least[1]}" if least else "")
    return f"{told}; {near.strip()}" if near else told


def meant(name: str, known: Iterable[str]) -> str:
    """`did you mean 'wang'? `, to stand before a list of what is known; empty where nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def nearest(name: str, known: Mapping[str, object]) -> str:
    """`did you mean 'max_kl'?`, or all that is known."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
