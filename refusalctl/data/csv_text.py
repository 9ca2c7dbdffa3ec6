"""CSV as people have it: commas, semicolons, tabs or bars, cells of any length, numbered as a spreadsheet does."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from refusalctl.errors import DataError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ANY_LENGTH = 2**31 - 1  # characters of a cell; the library's own limit is 131,072


def records(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Every record with its number from 1. Raises `DataError` naming the record that is no CSV."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        while True:
            with _any_length():
                cells = next(rows, None)
            if cells is None:
                return
            number += 1
            yield number, cells
    except csv.Error as error:
        raise DataError(
            f"{name} row {number + 1}: not CSV ({error})",
            hint="put a text that holds a delimiter, a line end or a quote in double quotes, and double those inside",
        ) from error


@contextmanager
def _any_length() -> Iterator[None]:
    """The limit belongs to the whole process, so it is put back at once."""
    before = csv.field_size_limit(ANY_LENGTH)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def declared_delimiter(text: str) -> str | None:
    """What Excel's own first line says, `sep=;`, which is no row of the table."""
    found = re.match(r"sep=([^\r\n])\r?\n", text)
    return found[1] if found else None


def delimiter_of(text: str, wanted: Callable[[list[str]], bool], usual: str = ",") -> str:
    """The delimiter of a table by its header: one whose cells are `wanted` (a column that is known is among them),
    else the one that gives most columns; `usual` where none gives more than one."""
    found: list[tuple[bool, int, bool, str]] = []
    for each in DELIMITERS:
        try:
            header = next((cells for _, cells in records("", text, each) if any(cells)), [])
        except DataError:
            continue
        header = [cell.strip() for cell in header]
        if len(header) > 1:
            found.append((wanted(header), len(header), each == usual, each))
    return max(found)[3] if found else usual
