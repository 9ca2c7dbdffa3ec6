"""Is an answer in its prompt's language? One written rule, for single texts of any length.

1. Fewer than 20 letters: not told.
2. Letters decide where they can. A text that holds enough of the letters that set the language apart and none that it
   never writes is in that language, whatever lid.176 says; a text without the former (from 60 letters on) or with the
   latter is not.
3. Otherwise lid.176's first guess: the language itself; a close relative (reported apart, never off-language by
   itself); another language from confidence 0.5 on (off-language); below that, not told.

A prompt's region or script does not count: a Portuguese answer to `pt-BR` and one in simplified characters to `zh-Hant`
are in the prompt's language. A script that the code names and the rule's letters are not of (`tg-Latn`) leaves the
letters out, and there only a guess of English makes an answer off-language: lid.176 knows most languages in one script.

Measured on 700 published prompts per language (docs/judges.md): the letters are what separates Bashkir from Tatar and
Russian, and Belarusian and Tajik from Russian, where lid.176 alone errs on up to 13 %.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from refusalctl.data.language_identification import MIN_LETTERS, guess, letters
from refusalctl.language_codes import base, script

Fit = Literal["same", "near", "other", "unsure", "short"]
ENOUGH = 60  # letters from which the absence of a language's own letters says something
SURE = 0.5
MAX_FOREIGN = 0.02
# lid.176's usual confusions among the languages of the prompts, and what models fall back to
RELATIVES: dict[str, frozenset[str]] = {
    "ba": frozenset({"tt", "ru", "kk", "ky"}),
    "be": frozenset({"ru", "uk"}),
    "de": frozenset({"lb", "nds", "nl"}),
    "es": frozenset({"gl", "ca", "pt"}),
    "it": frozenset({"co", "scn"}),
    "ja": frozenset({"zh"}),
    "nl": frozenset({"af", "nds"}),
    "pl": frozenset({"szl"}),
    "ru": frozenset({"be", "uk"}),
    "tg": frozenset({"ru", "bg", "mk"}),
    "yi": frozenset({"he"}),
    "zh": frozenset({"ja", "wuu", "yue"}),
    "ar": frozenset({"arz"}),
}


@dataclass(frozen=True)
class Alphabet:
    """`own`: letters that set the language apart, at least `least` of all; `foreign`: letters it never writes."""

    own: re.Pattern[str]
    foreign: re.Pattern[str]
    least: float = 0.01


def _letters(own: str, foreign: str, least: float = 0.01) -> Alphabet:
    return Alphabet(re.compile(f"[{own}]"), re.compile(f"[{foreign}]"), least)


ALPHABETS: dict[str, Alphabet] = {
    "ba": _letters("ҙҫҡғ", "җіїўқҷҳӣӯ"),
    "be": _letters("ўі", "ищъїєґ"),
    "ja": _letters("\u3040-\u30ff", "\uac00-\ud7af", 0.1),
    "ru": _letters("ищъ", "ўіҙҫҡғңөүһәӣқӯҳҷ"),
    "tg": _letters("ғӣқӯҳҷ", "әөңһҙҫҡўіщы"),
    "zh": _letters("\u4e00-\u9fff", "\u3040-\u30ff\uac00-\ud7af", 0.5),
}
SCRIPTS = {"ja": ("Jpan",), "zh": ("Hans", "Hant", "Hani")}  # that the letters are of; Cyrillic in the others


class ResponseLanguage(NamedTuple):
    """lid.176's guess with its confidence, and how that fits the prompt's language by the rule above."""

    lang: str | None
    score: float | None
    fit: Fit

    @property
    def near(self) -> bool:
        return self.fit == "near"

    @property
    def off(self) -> bool | None:
        """Whether the answer is in another language; None where that cannot be told."""
        return None if self.fit in ("unsure", "short") else self.fit == "other"


def response_language(text: str, expected: str) -> ResponseLanguage:
    """`expected` is the code of the prompt's language, such as `be`, `pt-BR` or `sr-Latn`."""
    written = script(expected)
    expected = base(expected)
    lettered = written is None or written in SCRIPTS.get(expected, ("Cyrl",) if expected in ALPHABETS else ())
    n = letters(text)
    if n < MIN_LETTERS:
        return ResponseLanguage(None, None, "short")
    found = guess(text)
    spelled = _spelled(text, expected) if lettered else None
    if spelled is True:
        return ResponseLanguage(expected, found.score if found.lang == expected else None, "same")
    fit: Fit = "other" if found.score >= SURE and (lettered or found.lang == "en") else "unsure"
    if found.lang == expected:
        fit = "same" if spelled is None else "unsure"
    elif spelled is None and found.lang in RELATIVES.get(expected, ()):
        fit = "near"
    elif spelled is False and found.lang in RELATIVES.get(expected, ()):
        fit = "other"
    return ResponseLanguage(found.lang, found.score, fit)


def _spelled(text: str, lang: str) -> bool | None:
    """What the letters say: True, False, or None where they do not decide."""
    alphabet = ALPHABETS.get(lang)
    plain = [c for c in text.lower() if c.isalpha()]
    if alphabet is None or not plain:
        return None
    joined = "".join(plain)
    own = len(alphabet.own.findall(joined)) / len(plain)
    foreign = len(alphabet.foreign.findall(joined)) / len(plain)
    if foreign > MAX_FOREIGN:
        return False
    if own >= alphabet.least:
        return True
    return False if len(plain) >= ENOUGH and own < alphabet.least / 2 else None
