"""Prompts of one's own out of a file in any of the forms that people have: checked by row, nothing lost in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from refusalctl.data import json_text, prompt_columns, tables
from refusalctl.data.prompt_columns import Columns
from refusalctl.data.prompt_texts import cluster_of, normal
from refusalctl.data.safe_names import shown
from refusalctl.errors import BadInput, DataError
from refusalctl.json_types import Json
from refusalctl.language_codes import canonical, check_code, of_name
from refusalctl.records.rows import KINDS, SPLITS, Kind, Prompt, Split

LONGEST_ID = 200
_SAME = {"validation": "val", "valid": "val"}
_Choice = TypeVar("_Choice", bound=str)


class NumberedPrompt(NamedTuple):
    """A prompt and the row of the user's file that it came from."""

    row: int
    prompt: Prompt


@dataclass(frozen=True)
class Asked:
    """What is said of a file beside its name: the prompts' language, class and split where no column says them,
    the columns of prompts (COLUMN or LANG=COLUMN) and ids, and how the file is to be read."""

    lang: str | None = None
    kind: Kind | None = None
    split: Split | None = None
    text_columns: tuple[str, ...] = ()
    id_column: str | None = None
    id_prefix: str = ""
    form: str | None = None
    encoding: str | None = None


class PromptFile(NamedTuple):
    """Prompts by language, and what was read: the form, the column of each language, columns that were not looked at,
    rows without anything, and rows without a text in one language."""

    rows: dict[str, list[NumberedPrompt]]
    name: str
    form: str
    columns: dict[str, str]
    ignored: tuple[str, ...]
    empty: tuple[int, ...]
    missing: dict[str, tuple[int, ...]]


def read_prompts(path: Path, asked: Asked) -> PromptFile:
    """Prompts of a file, `-` being standard input.

    Rows are numbered as an editor or a spreadsheet shows them: from 1, a CSV's header being row 1. Ids are the file's
    own; without, they are derived from class, split and text, in English where the row has it, so that a row's
    languages share an id and nothing else does. Raises `DataError` naming file, row and column for what cannot be used.
    """
    lang = None if asked.lang is None else check_code(asked.lang)
    table = tables.read_table(path, prompt_columns.is_known, form=asked.form, encoding=asked.encoding)
    if not table.rows:
        raise DataError(f"{table.name} holds no prompts")
    columns = prompt_columns.choose(table, lang, asked.text_columns, asked.id_column)
    found: dict[str, list[NumberedPrompt]] = {}
    missing: dict[str, list[int]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for number, row in table.rows:
        where = f"{table.name} row {number}"
        for code, column in _spoken(where, row, columns, lang):
            if (len(columns.texts) > 1 or columns.anchor != column) and tables.is_blank(row.get(column)):
                missing.setdefault(code, []).append(number)
                continue
            prompt = _prompt(where, row, columns, asked, code, column, seen)
            found.setdefault(code, []).append(NumberedPrompt(number, prompt))
    for rows in found.values():
        _check_unique(table.name, rows)
    texts = {code or ", ".join(found): column for code, column in columns.texts.items()}
    blanks = {code: tuple(rows) for code, rows in missing.items()}
    return PromptFile(found, table.name, table.form, texts, columns.ignored, table.empty, blanks)


def _spoken(where: str, row: Mapping[str, Json], columns: Columns, lang: str | None) -> Iterable[tuple[str, str]]:
    """Language and column of every text of a row."""
    if columns.lang is not None:
        said = _text(where, row, columns.lang)
        its = (canonical(said) or of_name(said)) if said else lang
        if its is None:
            raise DataError(f"{where}: {shown(said)} in {columns.lang!r} is no language", hint="give a code, or --lang")
        if lang is not None and its != lang:
            raise DataError(f"{where}: the language is {its!r}, --lang says {lang!r}")
        return [(its, next(iter(columns.texts.values())))]
    if len(columns.texts) > 1 and all(tables.is_blank(row.get(column)) for column in columns.texts.values()):
        raise DataError(f"{where}: empty text in every language")
    return list(columns.texts.items())


def _prompt(
    where: str,
    row: Mapping[str, Json],
    columns: Columns,
    asked: Asked,
    lang: str,
    column: str,
    seen: Counter[tuple[str, str]],
) -> Prompt:
    text = _text(where, row, column)
    if not normal(text):
        raise DataError(f"{where}: empty text" + ("" if column == "text" else f" in {column!r}"))
    kind = _choice(where, "kind", _text(where, row, columns.kind) or asked.kind, KINDS)
    split = _choice(where, "split", _text(where, row, columns.split) or asked.split, SPLITS)
    text_en = text if lang == "en" else _text(where, row, columns.text_en) or None
    cluster = cluster_of(text_en or _text(where, row, columns.anchor) or text)
    identifier = identifier_of(where, row.get(columns.id)) if columns.id else ""
    if not identifier:
        identifier = f"{kind}-{split}-{cluster}"
        seen[lang, identifier] += 1  # a text again: it is kept, and flagged as a duplicate
        identifier += f"-{seen[lang, identifier]}" if seen[lang, identifier] > 1 else ""
    return Prompt(f"{asked.id_prefix}{identifier}", lang, kind, split, text, text_en, "own", (), cluster)


def _text(where: str, row: Mapping[str, Json], column: str | None) -> str:
    """A cell as text without outer blanks. Raises `DataError` for what is none, or cannot be written as UTF-8."""
    value = row.get(column) if column is not None else None
    if tables.is_blank(value):
        return ""
    if not isinstance(value, str):
        hint = "a conversation: give its instruction as a text" if isinstance(value, list | dict) else None
        raise DataError(f"{where}: {column!r} is {json_text.kind_of(value)}, expected text", hint=hint)
    for place, character in enumerate(value, start=1):
        if "\ud800" <= character <= "\udfff":
            raise DataError(
                f"{where}: {column!r} holds half a character (a lone surrogate, character {place})",
                hint="the text was cut inside a sign of two halves, such as an emoji: mend or remove the row",
            )
        if character == "\0":
            raise DataError(f"{where}: {column!r} holds a zero byte (character {place})", hint="remove it")
    return value.strip()


def identifier_of(where: str, value: Any) -> str:
    """An id as text; whole numbers are taken as they are written."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = _text(where, {"id": value}, "id")
    if len(found) > LONGEST_ID or any(not character.isprintable() for character in found):
        raise DataError(
            f"{where}: the id has {len(found)} characters, or one that cannot be shown",
            hint=f"give one of up to {LONGEST_ID} letters, digits and signs, or another --id-column",
        )
    return found


def _choice(where: str, column: str, found: str | None, known: Sequence[_Choice]) -> _Choice:
    if not found:
        raise DataError(f"{where}: no {column}", hint=f"give a column {column!r} or --{column}")
    found = _SAME.get(found.casefold(), found.casefold()) if found.casefold() in (*known, *_SAME) else found
    if found not in known:
        raise DataError(f"{where}: unknown {column} {shown(found)}", hint=f"expected one of {', '.join(known)}")
    return cast(_Choice, found)


def _check_unique(name: str, rows: Iterable[NumberedPrompt]) -> None:
    seen: dict[str, int] = {}
    for row, prompt in rows:
        first = seen.setdefault(prompt.id, row)
        if first != row:
            raise DataError(
                f"{name} row {row}: duplicate id {prompt.id!r}, as in row {first}",
                hint="an id names one prompt; another column of ids: --id-column, one that is in the way: rename it",
            )


def check_prefix(prefix: str) -> str:
    """Raises `BadInput` for a prefix of ids that could not be typed again."""
    if len(prefix) > 40 or any(not c.isprintable() or c.isspace() for c in prefix):
        raise BadInput("--id-prefix takes up to 40 letters, digits and signs", hint="such as --id-prefix harmful-")
    return prefix
