"""From files that the field publishes to one table of prompts per language: class, id and language by written rules.

These sets are for evaluation and know no splits: every row is a test row. An id is shared by languages only where the
publishers made the rows translations of each other; otherwise it names its language.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from refusalctl.data import field_sets, tables
from refusalctl.data.jsonl import write_jsonl
from refusalctl.data.prompt_texts import cluster_of, flag_repeats
from refusalctl.errors import DataError
from refusalctl.json_types import JsonObject
from refusalctl.language_codes import canonical
from refusalctl.records.rows import Kind, Prompt


class Mapped(NamedTuple):
    """One row of a published file as this project knows prompts; `number` is a part of its id."""

    number: str
    lang: str
    kind: Kind
    text: str
    flags: tuple[str, ...] = ()


Row = Mapping[str, object]
Rule = Callable[[str, int, Row], Iterator[Mapped]]  # path, place in the file from 0, row


def _advbench(_path: str, place: int, row: Row) -> Iterator[Mapped]:
    yield Mapped(f"{place:03d}", "en", "harmful", _text(row, "goal"))


def _harmbench(_path: str, _place: int, row: Row) -> Iterator[Mapped]:
    """A contextual behaviour is asked about after its context, in the form of the benchmark's direct requests."""
    text, context = _text(row, "Behavior"), str(row.get("ContextString") or "").strip()
    kind = f"harmbench-{_text(row, 'FunctionalCategory')}"
    yield Mapped(_text(row, "BehaviorID"), "en", "harmful", f"{context}\n\n---\n\n{text}" if context else text, (kind,))


def _jailbreakbench(path: str, _place: int, row: Row) -> Iterator[Mapped]:
    kind: Kind = "harmful" if "harmful" in path else "harmless"
    yield Mapped(f"{kind}-{int(_text(row, 'Index')):02d}", "en", kind, _text(row, "Goal"))


def _strongreject(_path: str, place: int, row: Row) -> Iterator[Mapped]:
    yield Mapped(f"{place:03d}", "en", "harmful", _text(row, "forbidden_prompt"))


def _multijail(_path: str, _place: int, row: Row) -> Iterator[Mapped]:
    for lang in field_sets.named("multijail").languages:
        yield Mapped(_text(row, "id"), lang, "harmful", _text(row, lang))


def _xstest(_path: str, _place: int, row: Row) -> Iterator[Mapped]:
    kind: Kind = {"safe": "harmless", "unsafe": "harmful"}[_text(row, "label")]  # type: ignore[assignment]
    yield Mapped(f"{int(_text(row, 'id')):03d}", "en", kind, _text(row, "prompt"), (f"xstest-{_text(row, 'type')}",))


def _or_bench(path: str, place: int, row: Row) -> Iterator[Mapped]:
    kind: Kind = "harmful" if "toxic" in path else "harmless"
    yield Mapped(f"{kind}-{place:04d}", "en", kind, _text(row, "prompt"), (f"or-bench-{_text(row, 'category')}",))


def _linguasafe(_path: str, place: int, row: Row) -> Iterator[Mapped]:
    """Severity 0 is benign and asked to find oversensitivity, 1 to 3 are harmful: as its own evaluation reads it."""
    kind: Kind = "harmless" if int(_text(row, "level")) == 0 else "harmful"
    yield Mapped(f"{place:05d}", _language(row), kind, _text(row, "prompt"))


def _refuseu(_path: str, _place: int, row: Row) -> Iterator[Mapped]:
    """Prompts of one row_id were generated apart in each language, and are no translations."""
    yield Mapped(_text(row, "row_id"), _language(row), "harmful", _text(row, "prompt"))


RULES: dict[str, Rule] = {
    "advbench": _advbench,
    "harmbench": _harmbench,
    "jailbreakbench": _jailbreakbench,
    "strongreject": _strongreject,
    "multijail": _multijail,
    "xstest": _xstest,
    "or-bench": _or_bench,
    "linguasafe": _linguasafe,
    "refuseu": _refuseu,
}


def _text(row: Row, column: str) -> str:
    """A cell without the spaces around it. Raises `KeyError` where the file has no such column."""
    value = row[column]
    return "" if value is None else str(value).strip()


def _language(row: Row) -> str:
    found = canonical(_text(row, "lang"))
    if found is None:
        raise ValueError("its language is no language code")
    return found


def build(name: str, files: Mapping[str, bytes]) -> dict[str, list[Prompt]]:
    """Prompts by language. Raises `DataError` naming a row that does not fit; no text is quoted."""
    asked, mapped = field_sets.named(name), list(_mapped(name, files))
    english = {row.number: row.text for row in mapped if row.lang == "en"} if asked.parallel else {}
    found: dict[str, list[Prompt]] = {}
    for row in mapped:
        own = row.lang != "en" and not asked.parallel
        text_en = row.text if row.lang == "en" else english.get(row.number)
        cluster = cluster_of(text_en) if text_en else f"{row.lang}-{cluster_of(row.text)}"
        flags = (*row.flags, *(("empty",) if not row.text else ()))
        identifier = "-".join([name, *((row.lang,) if own else ()), row.number])
        prompt = Prompt(identifier, row.lang, row.kind, "test", row.text, text_en, name, flags, cluster)
        found.setdefault(row.lang, []).append(prompt)
    return {lang: flag_repeats(rows) for lang, rows in sorted(found.items())}


def _mapped(name: str, files: Mapping[str, bytes]) -> Iterator[Mapped]:
    for path, content in files.items():
        for place, (number, row) in enumerate(_rows(path, content)):
            try:
                yield from RULES[name](path, place, row)
            except (KeyError, ValueError) as error:
                what = f"no column or value {error}" if isinstance(error, KeyError) else "a value that does not fit"
                raise DataError(
                    f"{name}: {path} row {number}: {what}", hint="the file is of another form than the pinned one"
                ) from error


def _rows(path: str, content: bytes) -> list[tuple[int, JsonObject]]:
    with tempfile.TemporaryDirectory() as room:
        place = Path(room) / Path(path).name
        place.write_bytes(content)
        return tables.read_table(place, lambda _names: True, form=None if path.endswith(".parquet") else "csv").rows


def keep(name: str, made: Mapping[str, list[Prompt]]) -> dict[str, int]:
    """Write the tables. Returns their numbers of rows."""
    for lang, rows in made.items():
        write_jsonl(field_sets.folder(name) / f"{lang}.jsonl", (row.to_json() for row in rows))
    return {lang: len(rows) for lang, rows in made.items()}
