"""Prompt sets by name, and the one draw of prompt ids that every language of an experiment shares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from refusalctl.data import field_sets, organisms, polyrefuse, sample
from refusalctl.data.jsonl import read_jsonl
from refusalctl.data.languages import NAMES, name
from refusalctl.errors import BadInput, DataError
from refusalctl.language_codes import canonical, check_code, suggestion
from refusalctl.records.rows import Kind, Prompt, Split

SAMPLE_SET = "sample"
PUBLISHED_SET = "polyrefuse"
UNFIT = ("duplicate", "leak-from-train", "leak-from-val", "empty", "untranslated")


def set_names() -> list[str]:
    """Names that `--data` takes: sample and polyrefuse, the user's own, and those of the field that were fetched."""
    own = own_names()
    return [SAMPLE_SET, PUBLISHED_SET, *own, *(name for name in fetched_names() if name not in own)]


def own_names() -> list[str]:
    return sorted({p.parent.name for p in own_dir().glob("*/*.jsonl")})


def fetched_names() -> list[str]:
    """Sets of `field_sets` that are here."""
    return [name for name in field_sets.catalog() if field_sets.lock_of(name) is not None]


def is_organism(data: str) -> bool:
    """Whether a set's name is that of a model organism, whose prompts are made by rule."""
    return data.startswith(organisms.PREFIX)


def own_dir() -> Path:
    return sample.user_home() / "own"


def set_languages(data: str) -> list[str]:
    """Languages of a set. Raises `BadInput` for a name that is no set, `DataError` if it is not fetched."""
    if data == SAMPLE_SET:
        return sample.languages()
    if is_organism(data):
        return organisms.languages(data)
    return sorted(canonical(p.stem) or p.stem for p in _folder(data).glob("*.jsonl"))


def _file_of(data: str, lang: str) -> Path:
    """The file of one language, also where an earlier version spelled its code in another way (`zh_tw`)."""
    return next(p for p in sorted(_folder(data).glob("*.jsonl")) if lang in (p.stem, canonical(p.stem)))


def _folder(data: str) -> Path:
    if data == PUBLISHED_SET:
        if not polyrefuse.is_fetched():
            raise DataError(
                "the published PolyRefuse prompts have not been fetched",
                hint="run `refusalctl data fetch` (or `data fetch --from FOLDER`), or use --data sample",
            )
        return polyrefuse.tables_dir()
    if data in own_names():
        return own_dir() / data
    if data in field_sets.catalog():
        if field_sets.lock_of(data) is None:
            raise DataError(f"the prompt set {data!r} has not been fetched", hint=f"run `refusalctl data fetch {data}`")
        return field_sets.folder(data)
    known = list(dict.fromkeys([*set_names(), *field_sets.catalog()]))
    near = get_close_matches(data, known, n=1)
    raise BadInput(
        f"there is no prompt set {data!r}",
        hint=(f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(known)}",
    )


def check_has(data: str, langs: Sequence[str]) -> None:
    """Raises `BadInput` naming every language that a set lacks."""
    known = set_languages(data)
    lacking = [check_code(lang) for lang in langs if lang not in known]
    if lacking:
        other = f" or --data polyrefuse ({len(NAMES)} languages)" if data == SAMPLE_SET else ""
        near = suggestion(lacking[0], tuple(known))
        raise BadInput(
            f"the prompt set {data!r} has no {', '.join(f'{name(lang)} ({lang})' for lang in lacking)}",
            hint=f"{near}{' ' if near else ''}it has {', '.join(known)}; choose one of them{other}, "
            "or add your own with `data add`",
        )


@cache
def prompts(data: str, lang: str) -> tuple[Prompt, ...]:
    """Every prompt of one set and language. Raises `BadInput` when the set lacks the language."""
    check_has(data, [lang])
    if data == SAMPLE_SET:
        return tuple(sample.prompts(lang))
    if is_organism(data):
        return organisms.prompts(data, lang)
    path = _file_of(data, lang)
    return tuple(Prompt.from_json(row, f"{path.name} line {i}") for i, row in enumerate(read_jsonl(path), start=1))


def usable(data: str, lang: str, kind: Kind, split: Split) -> list[Prompt]:
    """Prompts of one class and split that carry no flag that makes them unfit (duplicates, leaks, blanks)."""
    return [
        p
        for p in prompts(data, lang)
        if p.kind == kind and p.split == split and not any(flag in UNFIT for flag in p.flags)
    ]


def draw(data: str, langs: Sequence[str], kind: Kind, split: Split, n: int | None, seed: int) -> list[str]:
    """Ids of `n` prompts that every language of `langs` has, the same whichever of them asks.

    The order is that of SHA-256(seed, id), so a smaller draw is the beginning of a larger one. Published
    runs drew English prompts from another pool than the rest, which confounds language with prompt set.
    Raises `BadInput` when fewer than `n` are shared.
    """
    pools = [{p.id for p in usable(data, lang, kind, split)} for lang in langs]
    shared = set.intersection(*pools)
    wanted = len(shared) if n is None else n
    if not shared or wanted > len(shared):
        each = ", ".join(f"{lang} {len(pool)}" for lang, pool in zip(langs, pools, strict=True))
        raise BadInput(
            f"{wanted or 'some'} {kind} {split} prompts were asked for, {len(shared)} are shared by "
            f"{', '.join(langs)} in {data!r} ({each})",
            hint="ask for fewer, or for languages whose prompts are parallel (`refusalctl data ls`)",
        )
    return sorted(shared, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())[:wanted]


def parallel(data: str, lang: str, langs: Sequence[str], kind: Kind, split: Split) -> list[str]:
    """`lang` and those of `langs` whose prompts are its translations: half of the ids so far must stay shared.

    Published harmless test rows of the old and the new languages are different samples, and the Chinese harmless
    train and validation rows are not aligned with any other.
    """
    group = [lang]
    shared = {p.id for p in usable(data, lang, kind, split)}
    for other in langs:
        both = shared & {p.id for p in usable(data, other, kind, split)}
        if other != lang and 2 * len(both) >= len(shared):
            group.append(other)
            shared = both
    return group


def pick(data: str, lang: str, ids: Iterable[str]) -> list[Prompt]:
    """The prompts with these ids in one language, in the order of `ids`."""
    by_id = {p.id: p for p in prompts(data, lang)}
    return [by_id[i] for i in ids]
