"""Prompts of one's own, kept as one file per language: several languages are added together or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from refusalctl.data import field_sets, sets
from refusalctl.data.jsonl import read_jsonl, write_jsonl
from refusalctl.data.prompt_files import NumberedPrompt
from refusalctl.data.prompt_texts import flag_repeats, normal
from refusalctl.errors import BadInput, DataError
from refusalctl.language_codes import canonical, check_code
from refusalctl.locks import locked
from refusalctl.records.rows import KINDS, SPLITS, Prompt

_DERIVED = ("duplicate", "leak-from-", "untranslated")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no files of these names on Windows


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
    if name.casefold() in (sets.SAMPLE_SET, sets.PUBLISHED_SET):
        raise BadInput(f"{name!r} is a set that ships with the tool", hint="choose another --name")
    if name.casefold() in field_sets.catalog() and name not in sets.own_names():  # older ones keep their names
        raise BadInput(f"{name!r} is a published set (`refusalctl data fetch {name}`)", hint="choose another --name")
    fits = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._+-]{0,62}[A-Za-z0-9_+-])?", name)
    if not fits or _RESERVED.fullmatch(name):
        raise BadInput(
            f"{name[:64]!r} cannot name a prompt set",
            hint="use up to 64 letters, digits, '-', '_', '+' and '.', a letter or digit first",
        )
    return name


def merge(
    name: str, lang: str, rows: Iterable[NumberedPrompt], *, replace_same: bool = False, keep_same: bool = False
) -> MergeResult:
    """`merge_all` of one language."""
    return merge_all(name, {lang: list(rows)}, replace_same=replace_same, keep_same=keep_same)[check_code(lang)]


def merge_all(
    name: str, new: Mapping[str, list[NumberedPrompt]], *, replace_same: bool = False, keep_same: bool = False
) -> dict[str, MergeResult]:
    """Add prompts to `own/<name>/<lang>.jsonl`, the files being whole or as they were.

    A row whose id is there already is replaced with `replace_same`, left as it is with `keep_same` if class,
    split and text agree, and otherwise a `DataError`; so is an id that has another class or split in another
    language. All is checked before the first file is written. Flags and the links to the set's English rows are made
    anew over the whole file.
    """
    folder = sets.own_dir() / check_name(name)
    new = {check_code(lang): rows for lang, rows in new.items()}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / ".lock"):
            there = _load(folder)
            changes = {lang: _checked(folder, lang, rows, there, replace_same, keep_same) for lang, rows in new.items()}
            return {lang: _merged(folder, lang, new[lang], change, there) for lang, change in changes.items()}
    finally:
        sets.prompts.cache_clear()
        if not any(folder.glob("*.jsonl")):  # nothing was added: leave no empty set behind
            (folder / ".lock").unlink(missing_ok=True)
            with suppress(OSError):  # unfinished translations may lie there
                folder.rmdir()


class _Change(NamedTuple):
    """Rows whose id is there already, and which of these stay as they are."""

    same: int
    kept: set[str]


def _checked(
    folder: Path,
    lang: str,
    rows: list[NumberedPrompt],
    there: dict[str, dict[str, Prompt]],
    replace_same: bool,
    keep_same: bool,
) -> _Change:
    _check_parallel(rows, lang, there)
    before = there.get(lang, {})
    same = [row for row in rows if row.prompt.id in before]
    kept = {r.prompt.id for r in same if keep_same and _content(r.prompt) == _content(before[r.prompt.id])}
    clash = [row for row in same if row.prompt.id not in kept and not replace_same]
    if clash:
        first, old = clash[0], before[clash[0].prompt.id]
        other = (old.kind, old.split) != (first.prompt.kind, first.prompt.split)
        raise DataError(
            f"row {first.row}: id {first.prompt.id!r} is in {folder.name}/{lang} already ({len(clash)} such)"
            + (f", there as {old.kind}/{old.split}" if other else ""),
            hint="tell the files' ids apart with --id-prefix, or choose another --name"
            if other
            else "pass --replace to replace these rows, or choose another --name",
        )
    return _Change(len(same), kept)


def _merged(
    folder: Path, lang: str, rows: list[NumberedPrompt], change: _Change, there: dict[str, dict[str, Prompt]]
) -> MergeResult:
    there[lang] = there.get(lang, {}) | {r.prompt.id: r.prompt for r in rows if r.prompt.id not in change.kept}
    written = _write(folder, lang, there)
    flagged = {flag: sum(flag in p.flags for p in written) for flag in sorted({f for p in written for f in p.flags})}
    replaced, path = change.same - len(change.kept), folder / f"{lang}.jsonl"
    return MergeResult(path, len(rows) - change.same, replaced, len(change.kept), len(written), flagged)


def _load(folder: Path) -> dict[str, dict[str, Prompt]]:
    """Every language of a set: its prompts by id."""
    found: dict[str, dict[str, Prompt]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        lang = canonical(path.stem) or path.stem
        if lang != path.stem:  # as an earlier version spelled it
            path = path.rename(path.with_stem(lang))
        rows = [row | {"lang": lang} for row in read_jsonl(path)]
        found[lang] = {row["id"]: Prompt.from_json(row, f"{path.name} line {n}") for n, row in enumerate(rows, start=1)}
    return found


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
