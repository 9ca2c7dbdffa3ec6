"""From published files to one clean table per language.

A row keeps one id in all languages where alignment is *shown*: test rows carry their English source, which
is compared; train and val rows do not, so a set is taken as aligned by position only when it is as long as
the English one and its text lengths follow the English lengths (Spearman rho >= 0.5; an unaligned set gives
about 0: the Chinese harmless train and val sets do). Rows aligned by position say so in `flags`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from refusalctl.data import polyrefuse
from refusalctl.data.jsonl import read_jsonl, write_jsonl
from refusalctl.data.prompt_texts import cluster_of, flag_repeats, normal, unescape
from refusalctl.errors import DataError
from refusalctl.json_types import JsonObject
from refusalctl.records.rows import KINDS, SPLITS, Kind, Prompt, Split

FORMAT = 2  # raise it with every change of what a table says
ALIGNED_RHO = 0.5
SECOND_HARMLESS_TEST = "splits/harmless_test_500_sampled.json"  # the sample that ba, be and tg were made from


def length_rho(english: Sequence[str], translated: Sequence[str]) -> float | None:
    """Spearman's rho between the lengths of two lists of texts paired by position.

    None where it is not defined: different lengths, fewer than eight pairs, or texts all equally long.
    """
    from scipy.stats import spearmanr

    sizes = [len(t) for t in english], [len(t) for t in translated]
    if len(english) != len(translated) or len(english) < 8 or any(len(set(s)) < 2 for s in sizes):
        return None
    return float(spearmanr(*sizes).statistic)


def aligned(english: Sequence[str], translated: Sequence[str]) -> bool:
    """Whether two lists of prompts can be paired by position (see the module's note)."""
    rho = length_rho(english, translated)
    return rho is not None and rho >= ALIGNED_RHO


def table(lang: str) -> list[Prompt]:
    """Every published prompt of one language, cleaned and flagged, harmful before harmless."""
    rows = [row for kind in KINDS for split in SPLITS for row in _read_set(lang, kind, split)]
    return flag_repeats(rows)


def _read_set(lang: str, kind: Kind, split: Split) -> list[Prompt]:
    files = polyrefuse.manifest().files
    paths = [polyrefuse.file_of(lang, kind, split)]
    if lang == "en" and (kind, split) == ("harmless", "test"):
        paths.append(SECOND_HARMLESS_TEST)
    rows: list[Prompt] = []
    for path in paths:
        if path in files:
            rows += _rows_of(lang, kind, split, polyrefuse.read_published(path))
    # the two English samples overlap: 31 rows are in both, and that is no duplicate of either
    return list({row.id: row for row in rows}.values()) if len(paths) > 1 else rows


def texts_of(lang: str, raw: Iterable[Mapping[str, str]]) -> list[str]:
    """The prompts of one published file in its language, as published."""
    return [str(r["instruction"] if lang == "en" else r.get("instruction_translated", r["instruction"])) for r in raw]


def _rows_of(lang: str, kind: Kind, split: Split, raw: list[dict[str, str]]) -> list[Prompt]:
    texts = texts_of(lang, raw)
    by_position = lang != "en" and split != "test"
    if not by_position:
        english: list[str | None] = [str(r["instruction"]) for r in raw]
    else:
        source = [str(r["instruction"]) for r in polyrefuse.read_published(polyrefuse.file_of("en", kind, split))]
        english = list(source) if aligned(source, texts) else [None] * len(texts)
    return [_clean(lang, kind, split, i, text, en, by_position) for i, (text, en) in enumerate(zip(texts, english))]


def _clean(
    lang: str, kind: Kind, split: Split, position: int, text: str, text_en: str | None, by_position: bool
) -> Prompt:
    plain = " ".join(unescape(text).split())
    flags = [
        flag
        for flag, holds in (
            ("aligned-by-position", by_position and text_en is not None),
            ("not-aligned", text_en is None),
            ("html-unescaped", unescape(text) != text),
            ("empty", not plain),
            ("untranslated", lang != "en" and text_en is not None and normal(plain) == normal(text_en)),
        )
        if holds
    ]
    cluster = cluster_of(text_en) if text_en else f"{lang}-{cluster_of(text)}"
    name = cluster if text_en else f"{lang}-{position:03d}"
    return Prompt(f"{kind}-{split}-{name}", lang, kind, split, plain, text_en, "polyrefuse", tuple(flags), cluster)


def build(langs: Iterable[str], progress: polyrefuse.Progress) -> dict[str, int]:
    """Write the clean table of each language, unless all are there already. Returns their numbers of rows.

    Every table is made before the first is written, and the stamp comes last.
    """
    wanted = list(langs)
    stamp = polyrefuse.tables_dir() / "built.json"
    found = _built(stamp, wanted)
    if found is not None:
        return found
    tables = {}
    for done, lang in enumerate(wanted, start=1):
        tables[lang] = table(lang)
        progress(done, len(wanted))
    stamp.unlink(missing_ok=True)
    for lang, rows in tables.items():
        write_jsonl(polyrefuse.tables_dir() / f"{lang}.jsonl", (row.to_json() for row in rows))
    write_jsonl(stamp, [{"made": _made(wanted), "rows": {lang: len(rows) for lang, rows in tables.items()}}])
    return {lang: len(rows) for lang, rows in tables.items()}


def _built(stamp: Path, langs: list[str]) -> dict[str, int] | None:
    """The stamp's row counts if these very tables are there, else None."""
    if not stamp.is_file():
        return None
    try:
        noted = read_jsonl(stamp)[0]
        rows: dict[str, int] = noted["rows"]
        return rows if noted["made"] == _made(langs) else None
    except (DataError, LookupError, OSError):
        return None


def _made(langs: list[str]) -> JsonObject:
    """What the tables follow from, and the bytes they have now."""
    commit = polyrefuse.manifest().commit
    files = {lang: (polyrefuse.tables_dir() / f"{lang}.jsonl").read_bytes() for lang in langs}
    return {"format": FORMAT, "commit": commit, **{k: hashlib.sha256(v).hexdigest() for k, v in files.items()}}
