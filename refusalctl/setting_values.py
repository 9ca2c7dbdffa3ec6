"""Values of settings: checked however a record of them is made; codes of languages, numbers without a limit."""

from __future__ import annotations

import re
from math import inf, isfinite
from typing import Any, Self

import msgspec
from msgspec import Struct

from refusalctl.errors import BadInput, DataError
from refusalctl.language_codes import check_code
from refusalctl.setting_words import misfit

UNLIMITED = {"max_kl": inf, "min_induce": -inf, "max_layer_share": inf}  # what says of these that there is no limit
MOST = 2**63 - 1  # what TOML, JSON readers and arrays hold


class Group(Struct, frozen=True, forbid_unknown_fields=True):
    """A few settings of one subject. Values that do not fit, or are out of range, raise `BadInput`."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                raise BadInput(misfit(field.name, value, field.type, str(error))) from error
            for each in value if isinstance(value, tuple) else (value,):
                check_number(field.name, each)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, as recipes hold them; infinity, which JSON lacks, as a text."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {name: written(value) for name, value in found.items()}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The record that `to_json` wrote. Raises `DataError` for anything else: it came from a file."""
        try:
            return msgspec.convert(read(value), cls)
        except msgspec.ValidationError as error:
            raise DataError(f"recorded settings are damaged, or of another version: {error}") from error


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
    return tuple(dict.fromkeys(map(check_code, given)))


def check_languages(name: str, given: tuple[str, ...]) -> None:
    """Raises `BadInput` where a record would hold a language twice, or in another spelling than recipes have."""
    if languages(given) != given:
        raise BadInput(f"{name} are {', '.join(given)}, expected {', '.join(languages(given))}")


_FOR_LANGUAGE = re.compile(r"([A-Za-z]{2,}(?:[-_][A-Za-z0-9]+)*)=(.*)", re.DOTALL)


def for_language(opening: str) -> tuple[str, str] | None:
    """Language and text of a refusal opening `LANG=TEXT`; None for one that names no language. Raises `BadInput` for
    what is no code: such an opening would be meant for nobody, and leave the others to the rest."""
    found = _FOR_LANGUAGE.fullmatch(opening)
    if found is None:
        return None
    try:
        return check_code(found[1]), found[2]
    except BadInput as error:
        raise BadInput(f"the refusal opening {opening[:40]!r}: {error.message}", hint=error.hint) from error


def openings(given: Any) -> Any:
    """Refusal openings with their languages in one spelling; what is no list of texts is left for the check of types.
    Raises `BadInput` for a language that is none."""
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        return given
    return tuple("=".join(for_language(each) or (each,)) for each in given)


def check_openings(given: tuple[str, ...] | None) -> None:
    """Raises `BadInput` for an opening without words, or for a language that is none or in another spelling."""
    if any(not (for_language(each) or ("", each))[1].strip() for each in given or ()):
        raise BadInput("a refusal opening is empty", hint="give the words that refusals begin with, or ids:40,2121")
    if given is not None and openings(given) != given:
        raise BadInput(f"refusal_openings are {', '.join(given)}, expected {', '.join(openings(given))}")


WRITTEN_ONCE = {"sources": languages, "targets": languages, "refusal_openings": openings}  # how their values are read
