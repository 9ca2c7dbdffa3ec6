"""Prompt texts: cleaned, compared, clustered, and flagged where they repeat."""

from __future__ import annotations

import hashlib
import html
import unicodedata
from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from refusalctl.records.rows import Prompt, Split

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


def flag_repeats(rows: Iterable[Prompt]) -> list[Prompt]:
    """Give a repeated id a number of its own, and flag repeats of a cluster within a class.

    The first row of a cluster is kept as it is; a later one is a `duplicate`, or a `leak-from-<split>` when
    the first lies in another split. So `rows` come in the order train, val, test.
    """
    seen: Counter[str] = Counter()
    split_of: dict[tuple[str, str], Split] = {}
    result = []
    for row in rows:
        first_time = (row.kind, row.cluster) not in split_of
        first_split = split_of.setdefault((row.kind, row.cluster), row.split)
        seen[row.id] += 1
        flags = row.flags
        if not first_time:
            flags += ("duplicate" if first_split == row.split else f"leak-from-{first_split}",)
        new_id = row.id if seen[row.id] == 1 else f"{row.id}-{seen[row.id]}"
        result.append(replace(row, id=new_id, flags=flags))
    return result
