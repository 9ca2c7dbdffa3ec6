"""Text that answers nothing: empty, without letters, a loop, or characters that are no writing.

Measured on characters, so that no tokenizer is favoured, and on windows that hold about as much in every script: one
sign of Chinese, Japanese, Korean or Thai counts for two letters (byte compression, used elsewhere, favours scripts of
several bytes a letter). Digits, punctuation, case and spaces are left out before repetition is looked for, so that a
numbered loop is a loop. What it cannot see: fluent nonsense, and a loop that changes a word each time. Thresholds were
set on `benchmarks/degenerate_set.py`; figures and weaknesses in docs/judges.md.
Broken words are looked for in Cyrillic, where the embedded model's adapter makes them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

GRAM = 10  # letters of an alphabet; half as many wide signs
MIN_LETTERS = 32
MAX_REPEATED = 0.6  # share of windows that occurred before: three equal thirds have 0.67, said twice 0.5
MIN_LOOP = 20
MAX_PERIOD = 40
MAX_LOST = 0.1
MIN_LOST = 3  # one lost character is a token cut in the middle
MAX_SWITCHES = 0.15
MIN_PAIRS = 15
MAX_BROKEN = 0.1
_WIDE = re.compile(r"[\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# letters of two scripts in one word, as no keyboard writes them: Latin inside or at the end of a Cyrillic word, or a
# lost character between letters. A Latin name with a Cyrillic ending (YouTubeҙа) or capitals (микроUSB) are words.
_CYRILLIC, _LATIN = r"[\u0400-\u052f]", r"[a-z\u00df-\u00f6\u00f8-\u024f]"
_BROKEN = re.compile(rf"{_CYRILLIC}{{2}}{_LATIN}{{2}}|{_CYRILLIC}{_LATIN}+{_CYRILLIC}|[^\W\d_]\ufffd+[^\W\d_]")
_LOST = ("Co", "Cn", "Cs", "Cc")
_KEPT = dict.fromkeys(map(ord, "\n\r\t"), " ")  # control characters that texts are written with
# these write one text together
_ONE = {"CJK": "EAST", "HIRAGANA": "EAST", "KATAKANA": "EAST", "KATAKANA-HIRAGANA": "EAST", "HANGUL": "EAST"}


def bare(text: str) -> str:
    """Letters and their marks alone, case folded."""
    text = text.casefold()
    if text.isascii():
        return "".join(filter(str.isalpha, text))
    return "".join(c for c in text if unicodedata.category(c)[0] in "LM")


def repeated_share(letters: str) -> float:
    """Share of the text's windows that occurred before in it; 0.0 for a text shorter than one window."""
    wide = 2 * len(_WIDE.findall(letters)) > len(letters)
    gram = GRAM // 2 if wide else GRAM
    windows = [letters[i : i + gram] for i in range(len(letters) - gram + 1)]
    return 1 - len(set(windows)) / len(windows) if windows else 0.0


def looping_tail(letters: str) -> int:
    """Length of the longest ending that is one unit of up to 40 letters said at least three times."""
    longest = 0
    for period in range(1, min(MAX_PERIOD, len(letters) // 3) + 1):
        length = period
        while length < len(letters) and letters[-length - 1] == letters[-length - 1 + period]:
            length += 1
        if length >= 3 * period:
            longest = max(longest, length)
    return longest


def lost_share(text: str) -> float:
    """Share of characters that are no writing: replacement, private, unassigned and control characters."""
    if "\ufffd" not in text and text.translate(_KEPT).isprintable():
        return 0.0
    lost = sum(c == "\ufffd" or (unicodedata.category(c) in _LOST and c not in "\n\r\t") for c in text)
    return lost / len(text) if lost >= MIN_LOST else 0.0


def switch_share(text: str) -> float:
    """Share of neighbouring letters that belong to different scripts; 0.0 for too few letters to tell."""
    if text.isascii():
        return 0.0
    scripts = [_script(c) if c.isalpha() else None for c in text]
    pairs = [(a, b) for a, b in pairwise(scripts) if a and b]
    return sum(a != b for a, b in pairs) / len(pairs) if len(pairs) >= MIN_PAIRS else 0.0


def broken_share(text: str) -> float:
    """Share of words, by white space, that are broken inside."""
    if not _BROKEN.search(text):  # a match holds no space
        return 0.0
    words = [word for word in text.split() if any(c.isalpha() for c in word)]
    return sum(_BROKEN.search(word) is not None for word in words) / len(words) if words else 0.0


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    first = unicodedata.name(letter, "?").split(" ", 1)[0]
    return _ONE.get(first, first)


def degenerate_reason(text: str) -> str | None:
    """Why a text is degenerate, or None."""
    if not text.strip():
        return "empty"
    if lost_share(text) > MAX_LOST:
        return "lost characters"
    if not any(c.isalnum() for c in text):
        return "no letters"
    if switch_share(text) > MAX_SWITCHES:
        return "mixed scripts"
    if broken_share(text) > MAX_BROKEN:
        return "broken words"
    letters = bare(text)
    wide = len(_WIDE.findall(letters))
    tail = looping_tail(letters)
    if tail + wide * tail // max(1, len(letters)) >= MIN_LOOP and 2 * tail >= len(letters):
        return "loop"
    if len(letters) + wide >= MIN_LETTERS and repeated_share(letters) > MAX_REPEATED:
        return "repetition"
    return None
