"""The base of everything that is written as one JSON document: a frozen record with a format name and a version."""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec

from refusalctl.json_types import JsonObject


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payload of an artifact. `FORMAT` and `VERSION` stand in the file, `FILE` is its name in the artifact's folder.

    Reading checks every field: a file that lacks one, has one too many, or holds another type is refused with the path
    to the field (`$.cells[3].n`). What was not measured is None, never a number.
    """

    FORMAT: ClassVar[str]
    FILE: ClassVar[str]
    VERSION: ClassVar[int] = 2  # 1: before payloads were records

    def to_json(self) -> JsonObject:
        """Plain dictionaries, lists and numbers."""
        found: JsonObject = msgspec.to_builtins(self)
        return found

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises `msgspec.ValidationError` with the path to the field that does not fit."""
        return msgspec.convert(value, cls)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record inside another one."""
