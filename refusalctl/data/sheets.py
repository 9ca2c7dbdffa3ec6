"""Sheets for annotators: CSV or JSON lines with opaque ids, texts to read, and an empty column to fill in."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalctl.data.safe_names import shown
from refusalctl.data.tables import read_table
from refusalctl.disk import whole
from refusalctl.errors import BadInput, DataError
from refusalctl.json_types import Json, JsonObject
from refusalctl.records.rows import OUTCOMES

COLUMNS = ("id", "prompt", "response", "label", "comment")
ALLOWED = tuple("unsure" if outcome == "unparsed" else outcome for outcome in OUTCOMES)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # wide ones too, where those are typed
_LOST = re.compile(r"[\d.,]+(E\+?\d+)?", re.IGNORECASE)  # what a spreadsheet makes of an id that looks like a number


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
    with whole(path) as draft:
        draft.touch(mode=0o600)
        if path.suffix == ".jsonl":
            draft.write_text(
                "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
            )
        else:
            _write_csv(draft, rows)


def _write_csv(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as out:  # the mark lets spreadsheets read every script
        writer = csv.DictWriter(out, COLUMNS, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows({key: neutral(row.get(key, "")) for key in COLUMNS} for row in rows)


def neutral(text: str) -> str:
    """A model's text must not become a formula in the annotator's spreadsheet: an apostrophe goes before it, and before
    one that begins with an apostrophe, so that `plain` gives every text back."""
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def plain(cell: str) -> str:
    """The text that `neutral` made a cell of."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell


def read(path: Path, ids: Sequence[str]) -> Sheet:
    """A filled-in sheet, checked against the ids that were drawn.

    Raises `DataError` naming the first row with a foreign, repeated or missing id, or a label that is not allowed, and
    when drawn rows are gone. Label case and spaces do not matter.
    """
    known, labels, empty, seen = set(ids), {}, [], Counter[str]()
    for number, row in _rows(path):
        where = f"{path.name} row {number}"
        key, label = _text(row, "id", where).strip(), _text(row, "label", where).strip().lower()
        seen[key] += 1
        if key not in known:
            changed = "a spreadsheet took it for a number: open the sheet anew, with ids as text"
            hint = changed if _LOST.fullmatch(key) else "give the sheet's own sample"
            raise DataError(f"{where}: id {shown(key)} was not drawn in this sample", hint=hint)
        if seen[key] > 1:
            raise DataError(f"{where}: id {key!r} is there twice", hint="keep one row of each id")
        if label and label not in ALLOWED:
            raise DataError(f"{where}: label {shown(label)} is not one of {', '.join(ALLOWED)}")
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


def _rows(path: Path) -> list[tuple[int, JsonObject]]:
    """Rows with the number that a spreadsheet shows: CSV with any delimiter, as spreadsheets save it, or JSON lines."""
    table = read_table(path, lambda names: "id" in names and "label" in names)
    if "id" not in table.columns:
        raise DataError(f"{table.name}: no column 'id'", hint=f"a sheet has the columns {', '.join(COLUMNS)}")
    return table.rows
