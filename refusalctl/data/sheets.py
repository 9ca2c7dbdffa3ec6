"""Sheets for annotators: CSV or JSON lines with opaque ids, texts to read, and an empty column to fill in."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalctl.errors import BadInput, DataError
from refusalctl.json_types import Json, JsonObject
from refusalctl.records.rows import OUTCOMES

COLUMNS = ("id", "prompt", "response", "label", "comment")
ALLOWED = tuple("unsure" if outcome == "unparsed" else outcome for outcome in OUTCOMES)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Sheet:
    """What came back: a label per id, and the ids without one."""

    labels: dict[str, str]
    empty: tuple[str, ...]


def write(path: Path, rows: Iterable[Mapping[str, str]], *, replace: bool = False) -> None:
    """Write a sheet whole, for the eyes of its annotator (mode 600). Raises `BadInput` when the file is there."""
    if path.exists() and not replace:
        raise BadInput(f"{path} is there already", hint="labels may be in it; give another --out, or --replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        if path.suffix == ".jsonl":
            draft.write_text(
                "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
            )
        else:
            _write_csv(draft, rows)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write_csv(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as out:  # the mark lets spreadsheets read every script
        writer = csv.DictWriter(out, COLUMNS, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows({key: _safe(row.get(key, "")) for key in COLUMNS} for row in rows)


def _safe(text: str) -> str:
    """A model's text must not become a formula in the annotator's spreadsheet; texts are never read back."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def read(path: Path, ids: Sequence[str]) -> Sheet:
    """A filled-in sheet, checked against the ids that were drawn.

    Raises `DataError` naming the first row with a foreign, repeated or missing id, or a label that is not allowed, and
    when drawn rows are gone. Label case and spaces do not matter.
    """
    known, labels, empty, seen = set(ids), {}, [], Counter[str]()
    for number, row in enumerate(_rows(path), start=1):
        where = f"{path.name} row {number}"
        key, label = _text(row, "id", where).strip(), _text(row, "label", where).strip().lower()
        seen[key] += 1
        if key not in known:
            raise DataError(
                f"{where}: id {key[:40]!r} was not drawn in this sample", hint="give the sheet's own sample"
            )
        if seen[key] > 1:
            raise DataError(f"{where}: id {key!r} is there twice", hint="keep one row of each id")
        if label and label not in ALLOWED:
            raise DataError(f"{where}: label {label[:40]!r} is not one of {', '.join(ALLOWED)}")
        if label:
            labels[key] = label
        else:
            empty.append(key)
    gone = sorted(known - set(seen))
    if gone:
        raise DataError(f"{path.name}: {len(gone)} of {len(ids)} drawn rows are not there (first: {gone[0]!r})")
    return Sheet(labels, tuple(empty))


def _text(row: Mapping[str, Json], key: str, where: str) -> str:
    value = row.get(key)
    if value is None and key == "label":
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: no column {key!r}", hint=f"a sheet has the columns {', '.join(COLUMNS)}")
    return value


def _rows(path: Path) -> list[JsonObject]:
    """CSV with commas, semicolons or tabs, as spreadsheets save it, or JSON lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8", hint="save it as CSV UTF-8") from error
    if path.suffix == ".jsonl":
        return [
            _object(line, number, path.name) for number, line in enumerate(text.split("\n"), start=1) if line.strip()
        ]
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    try:
        rows: list[JsonObject] = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{path.name} is no CSV ({error})") from error
    return rows


def _object(line: str, number: int, name: str) -> JsonObject:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise DataError(f"{name} row {number} is no JSON object")
    return row
