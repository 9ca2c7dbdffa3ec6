"""From published files to one clean table per language.

A row keeps one id in all languages where alignment is *shown*: test rows carry their English source, which
is compared; train and val rows do not, so a set is taken as aligned by position only when it is as long as
the English one and its text lengths follow the English lengths (Spearman rho >= 0.5; an unaligned set gives
about 0: the Chinese harmless train and val sets do). Rows aligned by position say so in `flags`.
"""

from __future__ import annotations

import hashlib
import html
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from refusalctl.data import polyrefuse
from refusalctl.data.records import KINDS, SPLITS, Kind, Prompt, Split
from refusalctl.data.rows import write_jsonl

ALIGNED_RHO = 0.5
_ENTITY = ("&#", "&quot;", "&amp;", "&lt;", "&gt;", "&nbsp;", "&apos;")


def normal(text: str) -> str:
    """Text reduced to what makes two prompts the same: letters and digits, case and spaces folded."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded)
    return " ".join(kept.split())


def cluster_of(text_en: str) -> str:
    return hashlib.sha256(normal(text_en).encode()).hexdigest()[:12]


def unescape(text: str) -> str:
    """Undo HTML entities, also doubly escaped ones, which machine translation left in the published files."""
    while any(mark in text for mark in _ENTITY):
        plain = html.unescape(text)
        if plain == text:
            break
        text = plain
    return text


def aligned(english: list[str], translated: list[str]) -> bool:
    """Whether two lists of prompts can be paired by position (see the module's note)."""
    from scipy.stats import spearmanr

    if len(english) != len(translated) or len(english) < 8:
        return False
    rho = spearmanr([len(t) for t in english], [len(t) for t in translated]).statistic
    return bool(rho >= ALIGNED_RHO)


def table(lang: str) -> list[Prompt]:
    """Every published prompt of one language, cleaned and flagged, harmful before harmless."""
    rows = [row for kind in KINDS for split in SPLITS for row in _read_set(lang, kind, split)]
    return flag_repeats(rows)


def _read_set(lang: str, kind: Kind, split: Split) -> list[Prompt]:
    files = polyrefuse.manifest().files
    paths = [polyrefuse.file_of(lang, kind, split)]
    if lang == "en" and (kind, split) == ("harmless", "test"):
        paths.append("splits/harmless_test_500_sampled.json")  # the sample that ba, be and tg were made from
    rows: list[Prompt] = []
    for path in paths:
        if path in files:
            rows += _rows_of(lang, kind, split, polyrefuse.read_published(path))
    first = {row.id: row for row in reversed(rows)}
    return list(reversed(first.values())) if len(paths) > 1 else rows


def _rows_of(lang: str, kind: Kind, split: Split, raw: list[dict[str, Any]]) -> list[Prompt]:
    texts = [str(r["instruction"] if lang == "en" else r.get("instruction_translated", r["instruction"])) for r in raw]
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


def flag_repeats(rows: list[Prompt]) -> list[Prompt]:
    """Give a repeated id a number of its own and flag duplicates within a class and leaks across splits."""
    seen: Counter[str] = Counter()
    split_of: dict[tuple[str, str], Split] = {}
    result = []
    for row in rows:
        first_split = split_of.setdefault((row.kind, row.cluster), row.split)
        seen[row.id] += 1
        flags = row.flags
        if first_split != row.split:
            flags += (f"leak-from-{first_split}",)
        elif seen[row.id] > 1:
            flags += ("duplicate",)
        new_id = row.id if seen[row.id] == 1 else f"{row.id}-{seen[row.id]}"
        result.append(replace(row, id=new_id, flags=flags))
    return result


def build(langs: Iterable[str], progress: polyrefuse.Progress) -> dict[str, int]:
    """Write the clean table of each language. Returns its number of rows."""
    wanted = list(langs)
    counts = {}
    for done, lang in enumerate(wanted, start=1):
        rows = table(lang)
        write_jsonl(polyrefuse.tables_dir() / f"{lang}.jsonl", (row.to_json() for row in rows))
        counts[lang] = len(rows)
        progress(done, len(wanted))
    return counts
