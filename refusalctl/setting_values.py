"""Values of settings that a type does not check or write: codes of languages, numbers without a limit."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

from refusalctl.errors import BadInput
from refusalctl.language_codes import canonical, suggestion

UNLIMITED = {"max_kl": inf, "min_induce": -inf, "max_layer_share": inf}  # what says of these that there is no limit
MOST = 2**63 - 1  # what TOML, JSON readers and arrays hold


def check_number(name: str, value: object) -> None:
    """What a type does not say: numbers are finite but where infinity means "no limit", and fit 64 bits."""
    if isinstance(value, float) and not isfinite(value) and UNLIMITED.get(name) != value:
        hint = f"no limit is {UNLIMITED[name]}" if name in UNLIMITED else None
        raise BadInput(f"{name} is {value}, expected a number", hint=hint)
    if isinstance(value, int) and abs(value) > MOST:
        raise BadInput(f"{name} is a number beyond 64 bits, expected at most {MOST}")


def written(value: Any) -> Any:
    """A value as JSON can hold it, groups included."""
    if isinstance(value, dict):
        return {name: written(each) for name, each in value.items()}
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def read(value: Any) -> Any:
    """What `written` wrote."""
    if not isinstance(value, dict):
        return value
    limits = {name: float(each) for name, each in value.items() if name in UNLIMITED and each in ("inf", "-inf")}
    return {name: read(each) for name, each in value.items()} | limits


def languages(given: Any) -> Any:
    """`en,be` or a list of codes, in their one spelling and without repeats; what is neither is left for the check of
    types. Raises `BadInput` for what is no code."""
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",") if part.strip()]
        if not given:
            raise BadInput("no language was named", hint="give codes such as en,be")
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        return given
    wrong = next((each for each in given if canonical(each) is None), None)
    if wrong is not None:
        hint = suggestion(wrong) or "give ISO 639 codes such as en, be, zh-Hant"
        raise BadInput(f"{wrong[:40]!r} is no language code", hint=hint)
    return tuple(dict.fromkeys(map(canonical, given)))


def check_languages(name: str, given: tuple[str, ...]) -> None:
    """Raises `BadInput` where a record would hold a language twice, or in another spelling than recipes have."""
    if languages(given) != given:
        raise BadInput(f"{name} are {', '.join(given)}, expected {', '.join(languages(given))}")
