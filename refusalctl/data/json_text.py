"""JSON as people have it: lines, lists of texts or objects, an object of columns, and any of these inside an object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from refusalctl.data.safe_names import shown
from refusalctl.errors import DataError
from refusalctl.json_types import Json, JsonObject
from refusalctl.untrusted import parse_json

Row = tuple[int, JsonObject]
Named = Callable[[list[str]], bool]


def parse(where: str, text: str) -> Json:
    """Raises `DataError` for what is not JSON, is nested beyond reason, or says a key twice: one would be lost."""
    try:
        found = parse_json(text, pairs=lambda pairs: _once(where, pairs), nan=True, halves=True)
    except json.JSONDecodeError as error:
        place = f" at line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f", column {error.colno}"
        raise DataError(f"{where}: not JSON ({error.msg}{place})") from error
    except ValueError as error:  # nested beyond reason, or a number of thousands of digits
        raise DataError(f"{where}: not JSON that can be read ({error})") from error
    return found


def _once(where: str, pairs: list[tuple[str, Json]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(f"{where}: the key {shown(twice)} is there twice in one object", hint="keep one of them")
    return found


def lines(name: str, text: str) -> Iterator[tuple[int, JsonObject]]:
    """Every line that is not blank as an object, or as a text of its own."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{name} row {number}"
            yield number, _as_row(where, parse(where, line))


def document(name: str, text: str, named: Named) -> tuple[list[Row], str]:
    """Rows of one JSON document, numbered from 1, and the path of keys that they were found under."""
    return _rows(name, parse(name, text), named, "")


def _rows(name: str, value: Json, named: Named, path: str, depth: int = 0) -> tuple[list[Row], str]:
    if isinstance(value, list):
        return [(n, _as_row(f"{name} row {n}", each)) for n, each in enumerate(value, start=1)], path
    if not isinstance(value, dict):
        raise DataError(f"{name} holds {_kind(value)}", hint="expected a list of texts or of objects")
    if named(list(value)):
        return _columnar(name, value), path
    if value and all(isinstance(each, dict) and named(list(each)) for each in value.values()):  # objects by their ids
        return [(n, {"id": key} | each) for n, (key, each) in enumerate(value.items(), start=1)], path
    inner = {key: each for key, each in value.items() if isinstance(each, list | dict) and each}
    if len(inner) == 1 and depth < 8:
        key, found = next(iter(inner.items()))
        return _rows(name, found, named, f"{path}.{key}" if path else key, depth + 1)
    if inner and all(isinstance(each, list | dict) for each in value.values()):
        return _columnar(name, value), path
    raise DataError(
        f"{name}: no list of prompts, but an object with {', '.join(map(shown, list(value)[:12])) or 'nothing'}",
        hint="expected a list of texts or of objects, an object of columns, or an object that holds one of these",
    )


def _columnar(name: str, value: Mapping[str, Json]) -> list[Row]:
    """An object of columns: lists of one length, or objects with the same row labels (as pandas writes it)."""
    if all(not isinstance(each, list | dict) for each in value.values()):
        return [(1, dict(value))]  # one row
    columns = {key: each for key, each in value.items() if isinstance(each, list | dict)}
    first = next(iter(columns.values()))
    labels = list(first) if isinstance(first, dict) else list(range(len(first)))
    for key, each in columns.items():
        its = list(each) if isinstance(each, dict) else list(range(len(each)))
        if its != labels:
            raise DataError(
                f"{name}: columns of different lengths ({shown(next(iter(columns)))} {len(labels)}, {shown(key)} "
                f"{len(its)})",
                hint="give a list of objects, or one file for each list",
            )
    return [(n, {key: each[label] for key, each in columns.items()}) for n, label in enumerate(labels, start=1)]


def _as_row(where: str, value: Json) -> JsonObject:
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, dict):
        inner = value.get("row")  # as a dataset viewer's pages have it
        return inner if isinstance(inner, dict) and "row_idx" in value else value
    raise DataError(f"{where}: {_kind(value)}, expected a text or an object", hint='such as {"text": ...}')


def _kind(value: Json) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


kind_of = _kind
