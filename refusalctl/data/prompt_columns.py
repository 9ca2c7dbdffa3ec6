"""Which columns of a table hold the prompts: found where it is plain, asked for where it is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from refusalctl.data.safe_names import looks_like_text, shown
from refusalctl.data.tables import Table, is_blank
from refusalctl.errors import BadInput
from refusalctl.language_codes import ISO_639_1, base, canonical, check_code

# what published sets call their prompts, case aside
TEXTS = frozenset(
    {
        "text",
        "prompt",
        "prompts",
        "goal",
        "behavior",
        "behaviour",
        "forbidden_prompt",
        "instruction",
        "question",
        "query",
        "request",
        "user_prompt",
        "harmful_prompt",
        "prompt_text",
    }
)
_OWN = ("id", "kind", "split", "text_en", "lang", "language")


class Columns(NamedTuple):
    """Names of columns: the prompts of each language ("": of the row's own), and what is told of them, None: not."""

    texts: dict[str, str]
    id: str | None
    kind: str | None
    split: str | None
    text_en: str | None
    lang: str | None
    anchor: str  # whose text a prompt's derived id is of: English, else the file's first language
    ignored: tuple[str, ...]


def is_known(names: list[str]) -> bool:
    """Whether a column of prompts is among these, by its name; or at least two named by languages."""
    return any(name.strip().casefold() in TEXTS for name in names) or len(_by_language(names)) > 1


def _by_language(names: Iterable[str]) -> dict[str, str]:
    """Columns that are named by a language; `id` is the prompt's id, not Indonesian."""
    found: dict[str, str] = {}
    for name in names:
        code = canonical(name) if name.strip().casefold() not in _OWN else None
        if code is not None and base(code) in ISO_639_1 and len(base(name.strip())) == 2:
            found[code] = name
    return found


def choose(table: Table, lang: str | None, asked: Sequence[str] = (), id_column: str | None = None) -> Columns:
    """The columns to read. `lang`: the one language wanted; `asked`: COLUMN or LANG=COLUMN.

    Raises `BadInput`, with the columns there are, where the prompts' column or the language is in doubt.
    """
    names = [name for name in table.columns if name.strip() and _filled(table, name)]
    spoken = _by_language(name for name in names if _worded(table, name))
    texts = _asked(table, asked, lang) if asked else _found(table, names, spoken, lang)
    its_lang = next((_named(names, each) for each in ("lang", "language") if _named(names, each)), None)
    if "" in texts and lang is None and its_lang is None:
        raise BadInput(f"{table.name}: in which language are the prompts?", hint="give --lang, or a column 'lang'")
    if "" in texts and lang is not None:
        texts = {lang: texts[""]}
    languages = texts if len(texts) > 1 or next(iter(texts)) in spoken else {}
    every = spoken | texts if languages else texts
    anchor = every.get("en") or next(iter(every.values()))
    english = every.get("en") if languages else None
    wanted = {
        "id": _column(table, names, id_column) if id_column else _named(names, "id"),
        "kind": _named(names, "kind"),
        "split": _named(names, "split"),
        "text_en": english or _named(names, "text_en") or _named(names, f"{anchor}_en".casefold()),
        "lang": None if languages else its_lang,
    }
    used = {*texts.values(), *(name for name in wanted.values() if name), anchor}
    ignored = tuple(n for n in table.columns if n not in used and _filled(table, n))
    return Columns(texts, **wanted, anchor=anchor, ignored=ignored)


def _filled(table: Table, name: str) -> bool:
    return any(not is_blank(row.get(name)) for _, row in table.rows)


def _worded(table: Table, name: str) -> bool:
    """Whether a column holds words: one of numbers called `no` or `nr` is neither Norwegian nor Ndebele."""
    values = (row.get(name) for _, row in table.rows)
    return any(isinstance(value, str) and any(map(str.isalpha, value)) for value in values)


def _named(names: Iterable[str], wanted: str) -> str | None:
    return next((name for name in names if name.strip().casefold() == wanted), None)


def _found(table: Table, names: list[str], spoken: dict[str, str], lang: str | None) -> dict[str, str]:
    known = [name for name in names if name.strip().casefold() in TEXTS]
    if len(known) == 1 and len(spoken) < 2:
        return {"": known[0]}
    if not known and lang is not None and lang in spoken:
        return {lang: spoken[lang]}
    if not known and lang is None and len(spoken) > 1:
        return spoken
    if len(known) == 1 and lang is not None and lang not in spoken:
        return {"": known[0]}
    maybe = [*known, *spoken.values()]
    if maybe:
        many = f"several columns could hold the prompts ({', '.join(map(repr, maybe[:12]))})"
        one = f"{spoken_of(spoken, maybe[0])}{maybe[0]}"
        raise BadInput(f"{table.name}: {many}", hint=f"choose: --text-column {one!r}; {_listed(table)}")
    raise BadInput(f"{table.name}: no column is known to hold prompts", hint=_ask(table, names))


def spoken_of(spoken: dict[str, str], name: str) -> str:
    """`de=` for a column that is named by a language, else nothing."""
    return next((f"{code}=" for code, column in spoken.items() if column == name), "")


def _ask(table: Table, names: list[str]) -> str:
    if any(map(looks_like_text, names)):
        return "its first row reads like a prompt, not like a header: add a row of names, or pass --format txt"
    if not names:
        return "it has no columns with names"
    longest = max(names, key=lambda name: sum(len(str(row.get(name) or "")) for _, row in table.rows[:100]))
    return f"name it: --text-column {longest!r}; {_listed(table)}"


def _listed(table: Table) -> str:
    names = [shown(name) for name in table.columns if name.strip() and _filled(table, name)]
    return f"columns: {', '.join(names[:20])}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _asked(table: Table, asked: Sequence[str], lang: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in asked:
        code, equals, column = each.partition("=")
        if each in table.columns or not equals:
            code, column = "", each
        key = check_code(code) if code else ""
        if key in found:
            raise BadInput(
                f"two columns for {key or 'one language'}: {shown(found[key])} and {shown(column)}",
                hint="name the language of each: --text-column en=goal --text-column de=goal_de",
            )
        found[key] = _column(table, table.columns, column)
    if "" in found and len(found) > 1:
        raise BadInput("a column without its language beside others", hint="name the language of each: en=goal")
    if lang is not None and "" not in found:
        if lang not in found:
            raise BadInput(f"--lang says {lang}, --text-column {', '.join(found)}", hint="leave --lang away")
        found = {lang: found[lang]}
    return found


def _column(table: Table, names: Iterable[str], wanted: str) -> str:
    """The column of this name, case and outer spaces aside where that is not ambiguous."""
    names = list(names)
    if wanted in names:
        return wanted
    alike = [name for name in names if name.strip().casefold() == wanted.strip().casefold()]
    if len(alike) == 1 and wanted.strip():
        return alike[0]
    close = difflib.get_close_matches(wanted, names, n=1)
    near = f"did you mean {shown(close[0])}? " if close else ""
    raise BadInput(f"{table.name} has no column {shown(wanted)}", hint=f"{near}{_listed(table)}")
