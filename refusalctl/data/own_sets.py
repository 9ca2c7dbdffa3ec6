"""Prompts of one's own: read from JSON lines or CSV, checked row by row, kept as one file per language."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from msgspec.structs import replace

from refusalctl.data import sets
from refusalctl.data.jsonl import read_jsonl, write_jsonl
from refusalctl.data.languages import check_code
from refusalctl.data.prompt_texts import cluster_of, flag_repeats, normal
from refusalctl.errors import BadInput, DataError
from refusalctl.locks import locked
from refusalctl.records.rows import KINDS, SPLITS, Kind, Prompt, Split

COLUMNS = ("text", "id", "kind", "split", "text_en", "lang")
_DERIVED = ("duplicate", "leak-from-", "untranslated")
_Choice = TypeVar("_Choice", bound=str)


class NumberedPrompt(NamedTuple):
    """A prompt and the row of the user's file that it came from."""

    row: int
    prompt: Prompt


class MergeResult(NamedTuple):
    """What a merge did: rows that are new, replaced or left as they were, and flags over the whole file."""

    path: Path
    added: int
    replaced: int
    unchanged: int
    total: int
    flagged: dict[str, int]


def check_name(name: str) -> str:
    """Return `name` if a prompt set of one's own can be called so. Raises `BadInput` otherwise."""
    if name in (sets.SAMPLE_SET, sets.PUBLISHED_SET):
        raise BadInput(f"{name!r} is a set that ships with the tool", hint="choose another --name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
        raise BadInput(f"{name!r} cannot name a prompt set", hint="use letters, digits, '-', '_', '+' and '.'")
    return name


def read_file(path: Path, lang: str, kind: Kind | None = None, split: Split | None = None) -> list[NumberedPrompt]:
    """Prompts of a `.jsonl` or `.csv` file; `kind` and `split` stand in where a row has none.

    Rows are numbered as an editor or a spreadsheet shows them: from 1, a CSV's header being row 1.
    Raises `DataError` naming file and row for empty text, an unknown column, class or split, a repeated id
    or prompt, and bytes that are not UTF-8.
    """
    check_code(lang)
    raw = _raw_rows(path)
    found = [NumberedPrompt(n, _prompt(f"{path.name} row {n}", row, lang, kind, split)) for n, row in raw]
    if not found:
        raise DataError(f"{path.name} holds no prompts")
    _check_unique(path.name, found)
    return found


def _raw_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise BadInput(f"{path.name} is neither .jsonl nor .csv", hint="save it as one of them, in UTF-8")
    try:
        text = _decoded(path.name, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    return _csv_rows(path.name, text) if path.suffix.lower() == ".csv" else _json_rows(path.name, text)


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise DataError(f"{name} row {row}: not UTF-8 (byte {error.start})", hint="save the file as UTF-8") from error


def _json_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{name} row {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{name} row {number}: a {type(row).__name__}, expected an object with the key 'text'")
        yield number, row


def _csv_rows(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 0
    header: list[str] | None = None
    try:
        for number, cells in enumerate(rows, start=1):
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_columns(f"{name} row {number}", header)
            elif cells:  # a blank line has none
                yield number, _cells_of(f"{name} row {number}", header, cells)
    except csv.Error as error:
        raise DataError(f"{name} row {number + 1}: not CSV ({error})") from error


def _cells_of(where: str, header: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise DataError(
            f"{where}: {len(cells)} cells, expected {len(header)} ({', '.join(header)})",
            hint="put a text that holds a comma in double quotes",
        )
    return dict(zip(header, cells, strict=True))


def _check_columns(where: str, columns: Iterable[str]) -> None:
    listed = list(columns)
    unknown = [column for column in listed if column not in COLUMNS]
    if unknown:
        raise DataError(f"{where}: unknown column {unknown[0]!r}", hint=f"expected among {', '.join(COLUMNS)}")
    if len(set(listed)) < len(listed):
        raise DataError(f"{where}: a column is there twice ({', '.join(listed)})")
    if "text" not in listed:
        raise DataError(f"{where}: no column 'text'", hint=f"found {', '.join(listed) or 'nothing'}")


def _prompt(where: str, row: dict[str, Any], lang: str, kind: Kind | None, split: Split | None) -> Prompt:
    _check_columns(where, row)
    wrong = [column for column, value in row.items() if value is not None and not isinstance(value, str)]
    if wrong:
        raise DataError(f"{where}: {wrong[0]!r} is a {type(row[wrong[0]]).__name__}, expected text")
    cells = {column: (value or "").strip() for column, value in row.items()}
    if not normal(cells["text"]):
        raise DataError(f"{where}: empty text")
    if cells.get("lang", lang) not in ("", lang):
        raise DataError(f"{where}: the language is {cells['lang']!r}, --lang says {lang!r}")
    its_kind = _choice(where, "kind", cells.get("kind") or kind, KINDS)
    its_split = _choice(where, "split", cells.get("split") or split, SPLITS)
    text_en = cells["text"] if lang == "en" else cells.get("text_en") or None
    cluster = cluster_of(text_en or cells["text"])
    identifier = cells.get("id") or f"{its_kind}-{its_split}-{cluster}"
    return Prompt(identifier, lang, its_kind, its_split, cells["text"], text_en, "own", (), cluster)


def _choice(where: str, column: str, found: str | None, known: Sequence[_Choice]) -> _Choice:
    if not found:
        raise DataError(f"{where}: no {column}", hint=f"give a column {column!r} or --{column}")
    if found not in known:
        raise DataError(f"{where}: unknown {column} {found!r}", hint=f"expected one of {', '.join(known)}")
    return cast(_Choice, found)


def _check_unique(name: str, rows: Iterable[NumberedPrompt]) -> None:
    seen: dict[str, int] = {}
    for row, prompt in rows:
        first = seen.setdefault(prompt.id, row)
        if first != row:
            raise DataError(
                f"{name} row {row}: duplicate id {prompt.id!r}, as in row {first}",
                hint="ids are derived from class, split and text where the file gives none",
            )


def merge(
    name: str, lang: str, rows: Iterable[NumberedPrompt], *, replace_same: bool = False, keep_same: bool = False
) -> MergeResult:
    """Add prompts to `own/<name>/<lang>.jsonl`, the file being whole or as it was.

    A row whose id is there already is replaced with `replace_same`, left as it is with `keep_same` if class,
    split and text agree, and otherwise a `DataError`; so is an id that has another class or split in another
    language. Flags and the links to the set's English rows are made anew over the whole file.
    """
    folder = sets.own_dir() / check_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / ".lock"):
            return _merge_locked(folder, check_code(lang), list(rows), replace_same, keep_same)
    finally:
        sets.prompts.cache_clear()
        if not any(folder.glob("*.jsonl")):  # nothing was added: leave no empty set behind
            (folder / ".lock").unlink(missing_ok=True)
            with suppress(OSError):  # unfinished translations may lie there
                folder.rmdir()


def _merge_locked(
    folder: Path, lang: str, rows: list[NumberedPrompt], replace_same: bool, keep_same: bool
) -> MergeResult:
    there = _load(folder)
    _check_parallel(rows, lang, there)
    before = there.get(lang, {})
    same = [row for row in rows if row.prompt.id in before]
    kept = {r.prompt.id for r in same if keep_same and _content(r.prompt) == _content(before[r.prompt.id])}
    clash = [row for row in same if row.prompt.id not in kept and not replace_same]
    if clash:
        raise DataError(
            f"row {clash[0].row}: id {clash[0].prompt.id!r} is in {folder.name}/{lang} already ({len(clash)} such)",
            hint="pass --replace to replace these rows, or choose another --name",
        )
    there[lang] = before | {r.prompt.id: r.prompt for r in rows if r.prompt.id not in kept}
    written = _write(folder, lang, there)
    flagged = {flag: sum(flag in p.flags for p in written) for flag in sorted({f for p in written for f in p.flags})}
    replaced, path = len(same) - len(kept), folder / f"{lang}.jsonl"
    return MergeResult(path, len(rows) - len(same), replaced, len(kept), len(written), flagged)


def _load(folder: Path) -> dict[str, dict[str, Prompt]]:
    """Every language of a set: its prompts by id."""
    return {
        path.stem: {
            row["id"]: Prompt.from_json(row, f"{path.name} line {n}") for n, row in enumerate(read_jsonl(path), start=1)
        }
        for path in sorted(folder.glob("*.jsonl"))
    }


def _content(prompt: Prompt) -> tuple[str, str, str]:
    return prompt.kind, prompt.split, prompt.text


def _check_parallel(rows: Iterable[NumberedPrompt], lang: str, there: Mapping[str, Mapping[str, Prompt]]) -> None:
    for other, prompts in there.items():
        for row, prompt in rows:
            twin = prompts.get(prompt.id)
            if other != lang and twin and (twin.kind, twin.split) != (prompt.kind, prompt.split):
                here, elsewhere = f"{prompt.kind}/{prompt.split}", f"{twin.kind}/{twin.split}"
                raise DataError(
                    f"row {row}: {prompt.id!r} is {here}, but {elsewhere} in {other}",
                    hint="an id names one prompt in every language of a set",
                )


def _write(folder: Path, lang: str, there: Mapping[str, Mapping[str, Prompt]]) -> list[Prompt]:
    """Write `lang`, and after new English rows also the languages that they are linked to."""
    english = there.get("en", {})
    for code in [lang, *(other for other in there if lang == "en" and other != "en")]:
        rows = _flagged(_linked(prompt, english) for prompt in there[code].values())
        write_jsonl(folder / f"{code}.jsonl", (row.to_json() for row in rows))
        if code == lang:
            written = rows
    return written


def _linked(prompt: Prompt, english: Mapping[str, Prompt]) -> Prompt:
    """The prompt with the text and cluster of the English row of its id, so that translations are one unit."""
    twin = english.get(prompt.id)
    if twin is None or prompt.lang == "en":
        return prompt
    return replace(prompt, text_en=prompt.text_en or twin.text, cluster=twin.cluster)


def _flagged(prompts: Iterable[Prompt]) -> list[Prompt]:
    ordered = sorted(prompts, key=lambda p: (KINDS.index(p.kind), SPLITS.index(p.split)))
    return flag_repeats(replace(p, flags=_lasting(p) + _untranslated(p)) for p in ordered)


def _lasting(prompt: Prompt) -> tuple[str, ...]:
    return tuple(flag for flag in prompt.flags if not flag.startswith(_DERIVED))


def _untranslated(prompt: Prompt) -> tuple[str, ...]:
    same = prompt.lang != "en" and prompt.text_en is not None and normal(prompt.text) == normal(prompt.text_en)
    return ("untranslated",) if same else ()
