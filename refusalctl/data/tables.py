"""Rows out of a user's file: CSV, lines, JSON or Parquet, told by its name, by what it holds, or by the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.data import csv_text, json_text
from refusalctl.data.file_bytes import FileBytes, decode, read_bytes
from refusalctl.data.safe_names import looks_like_text, shown
from refusalctl.errors import BadInput, DataError
from refusalctl.json_types import Json, JsonObject
from refusalctl.setting_words import meant

FORMS = {
    "csv": "CSV",
    "tsv": "tab-separated",
    "txt": "one prompt a line",
    "json": "JSON",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
}
_SUFFIXES = {f".{form}": form for form in FORMS} | {
    ".tab": "tsv",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".pq": "parquet",
}
Named = Callable[[list[str]], bool]  # whether a known column of prompts is among these names


class Table(NamedTuple):
    """Rows with the number that an editor or a spreadsheet shows, without those that hold nothing (`empty`)."""

    name: str
    form: str
    columns: tuple[str, ...]
    rows: list[tuple[int, JsonObject]]
    empty: tuple[int, ...]


def read_table(path: Path, named: Named, *, form: str | None = None, encoding: str | None = None) -> Table:
    """The rows of a file, `-` being standard input. A row's number is its line, or its place in a list, from 1.

    Raises `DataError` naming the row that cannot be read, `BadInput` for a file of another kind.
    """
    if form is not None and form not in FORMS:
        raise BadInput(f"there is no format {form!r}", hint=f"{meant(form, FORMS)}known: {', '.join(FORMS)}")
    file = read_bytes(path)
    chosen = form or _SUFFIXES.get(file.suffix)
    if file.content.startswith(b"PAR1") or chosen == "parquet":
        return _table(file.name, "Parquet", _parquet(file))
    text = decode(file, encoding)
    if form is None:
        chosen = _seen(file, chosen, text, named)
    assert chosen is not None
    return _read(file.name, chosen, text, named)


def _read(name: str, form: str, text: str, named: Named) -> Table:
    if form == "txt":
        return _table(name, "one prompt a line", [(n, {"text": line}) for n, line in enumerate(_lines(text), start=1)])
    if form == "jsonl":
        return _table(name, "JSON lines", list(json_text.lines(name, text)))
    if form == "json":
        if not text.strip():
            raise DataError(f"{name} holds no prompts: it is empty")
        rows, path = json_text.document(name, text, named)
        return _table(name, f"JSON, below {path!r}" if path else "JSON", rows)
    return _csv(name, form, text, named)


def _lines(text: str) -> list[str]:
    """Lines of a text file; U+2028 and its like are characters of a prompt."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _seen(file: FileBytes, by_name: str | None, text: str, named: Named) -> str:
    """The format, where what the file holds fits its name; else what it surely holds. Raises `BadInput` in doubt."""
    begin = next((line.strip() for line in _lines(text) if line.strip()), "")
    json_like = begin.startswith(("{", "["))
    if by_name in ("json", "jsonl") or (by_name is None and json_like):
        alone = text.lstrip().startswith("[") or not _is_json(begin) or (by_name is None and text.strip() == begin)
        return "json" if alone or (by_name == "json" and _is_json(text)) else "jsonl"
    delimiter = csv_text.declared_delimiter(text) or csv_text.delimiter_of(text, named)
    header = [cell.strip().strip('"') for cell in begin.split(delimiter)]
    if by_name == "txt" and (named(header) or (json_like and _is_json(begin))):
        other = "jsonl" if json_like else "csv"
        raise BadInput(
            f"{file.name}: its first line is {'a JSON value' if json_like else 'a header of a table'}",
            hint=f"pass --format {other}, or --format txt if every line is a prompt",
        )
    if by_name is not None:
        return by_name
    if named(header):
        return "csv"
    raise BadInput(f"{file.name}: its format cannot be told", hint=f"pass --format, one of {', '.join(FORMS)}")


def _is_json(text: str) -> bool:
    try:
        json_text.parse("", text)
    except DataError as error:
        return "twice" in error.message  # JSON, and refused where it is read
    return True


def _csv(name: str, form: str, text: str, named: Named) -> Table:
    declared = csv_text.declared_delimiter(text)
    delimiter = declared or csv_text.delimiter_of(text, named, "\t" if form == "tsv" else ",")
    header: list[str] | None = None
    rows: list[tuple[int, JsonObject]] = []
    for number, cells in csv_text.records(name, text, delimiter):
        if (number == 1 and declared) or (header is None and not any(cell.strip() for cell in cells)):
            continue
        if header is None:
            header = [cell.strip() or f"(column {i})" for i, cell in enumerate(cells, start=1)]
            _check_header(f"{name} row {number}", header)
        else:
            rows.append((number, _cells(f"{name} row {number}", header, cells)))
    told = f"{FORMS[form]}, {csv_text.DELIMITERS.get(delimiter, repr(delimiter))}" if len(header or ()) > 1 else "CSV"
    return _table(name, told, rows, tuple(header or ()))


def _check_header(where: str, header: list[str]) -> None:
    twice = next((cell for cell in header if header.count(cell) > 1), None)
    if twice is not None:
        raise DataError(f"{where}: a column is there twice ({shown(twice)})", hint="rename one of them")


def _cells(where: str, header: list[str], cells: list[str]) -> JsonObject:
    if not any(cell.strip() for cell in cells):
        return {}  # a blank line, or the tail that a spreadsheet leaves
    while len(cells) > len(header) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) != len(header):
        names = "" if any(map(looks_like_text, header)) else f" ({', '.join(header)})"
        raise DataError(
            f"{where}: {len(cells)} cells, expected {len(header)}{names}",
            hint="put a text that holds the delimiter in double quotes; one prompt a line is --format txt",
        )
    return dict(zip(header, cells, strict=True))


def _parquet(file: FileBytes) -> list[tuple[int, JsonObject]]:
    try:
        from refusalctl.data.parquet import rows
    except ImportError as error:
        raise BadInput(
            f"{file.name} is Parquet, which needs the package pyarrow", hint="pip install 'refusalctl[parquet]'"
        ) from error
    return list(enumerate(rows(file.name, file.content), start=1))


def _table(name: str, form: str, rows: list[tuple[int, JsonObject]], columns: tuple[str, ...] | None = None) -> Table:
    kept = [(number, row) for number, row in rows if not _is_empty(row)]
    named = columns if columns is not None else tuple(dict.fromkeys(key for _, row in rows for key in row))
    empty = tuple(number for number, row in rows if _is_empty(row))
    last = kept[-1][0] if kept else 0
    if form == "one prompt a line" and empty and empty[-1] > last:  # the end of the last line is no line
        empty = tuple(number for number in empty if number < max(number for number, _ in rows))
    return Table(name, form, named, kept, empty)


def _is_empty(row: Mapping[str, Json]) -> bool:
    return all(is_blank(value) for value in row.values())


def is_blank(value: Any) -> bool:
    """Whether a cell holds nothing: blanks, null, or the not-a-number that tables write for it."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value
