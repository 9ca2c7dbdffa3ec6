"""Texts as phrases are looked for in them: one way of writing, without quoted speech, in sentences and clauses.

The same folding is applied to phrases and to answers, so that what a reader sees as one wording is one: characters that
nobody sees (zero-width, bidi marks, soft hyphens), Markdown and HTML, apostrophes of every kind, compatibility forms
(fullwidth, presentation forms), case, accents and points of Latin, Cyrillic, Arabic and Hebrew letters, tatweel, forms
of alef, yeh and kaf, traditional Chinese characters, Cyrillic and Latin letters that look alike in a word of the other
script, and all kinds of space. docs/judges.md lists it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

MAX_RAW = 20_000  # characters of an answer that are looked at, unseen ones included
MAX_SEEN = 1_500
MAX_SENTENCES = 4

_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]+"
)
# combining marks of scripts whose letters stay the same without them; vowels of Thai and marks of kana are kept
_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_APOSTROPHES = "'`\u00b4\u02b9\u02bb\u02bc\u02bd\u02c8\u02ca\u02cb\u05f3\u2018\u2019\u201b\u2032\u2035\ua78c\uff07"
_TRADITIONAL = (
    "無會對個這請為從滿難絕願寫議務認幫說話謝謝問題樣種開關應該許讓與讀聽實際協參發給尋們愛還進過時間點當歡樂負責"
)
_SIMPLIFIED = (
    "无会对个这请为从满难绝愿写议务认帮说话谢谢问题样种开关应该许让与读听实际协参发给寻们爱还进过时间点当欢乐负责"
)
_LETTERS = str.maketrans(
    dict.fromkeys(_APOSTROPHES, "")
    | {"\u0640": "", "\u0671": "ا", "ى": "ي", "ی": "ي", "ې": "ي", "ک": "ك", "ڪ": "ك", "ة": "ه", "ہ": "ه", "ھ": "ه"}
    | {"װ": "וו", "ױ": "וי", "ײ": "יי", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i"}
    | dict(zip(_TRADITIONAL, _SIMPLIFIED, strict=True))
)
_CYRILLIC = "АВЕКМНОРСТУХІЈЅҺаеорсухіјѕһәө"
_LATIN = "ABEKMHOPCTYXIJSHaeopcyxijshəɵ"
_TO_CYRILLIC = str.maketrans(_LATIN, _CYRILLIC)
_TO_LATIN = str.maketrans(_CYRILLIC, _LATIN)
_MIXED = re.compile(r"\b(?=\w*[A-Za-zəɵ])(?=\w*[\u0400-\u04ff])\w+")
_LATIN_ONLY = re.compile("[A-Za-z]")
_CYRILLIC_ONLY = re.compile("[\u0400-\u04ff]")

_BLOCK_TAG = re.compile(r"</?(?:p|br|div|li|ul|ol|h[1-6]|tr|table|blockquote|pre)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<!--[^<>]{0,200}-->")
_LINK = re.compile(r"!?\[([^\[\]]{1,200})\]\([^()\s]{0,300}\)")
_LINE_MARK = re.compile(r"^ ?(?:(?:[#>*+\u2022\u2023\u25aa\u25cf-]|\d{1,3}[.)]) ?)+", re.MULTILINE)
_EMPHASIS = re.compile(r"[*_~`\\]+")
_LINE_ENDS = r"\n\v\f\x1c-\x1e\x85\u2028\u2029"
_SPACES = re.compile(rf"[^\S{_LINE_ENDS} ][^\S{_LINE_ENDS}]*| [^\S{_LINE_ENDS}]+")  # all but single spaces
_LINES = re.compile(rf" ?[{_LINE_ENDS}][{_LINE_ENDS} ]*")
_LINE_END = re.compile(f"[{_LINE_ENDS}]")

# speech: in quotation marks, or between dashes as in novels; a word in quotation marks is no speech
_QUOTE = re.compile("[\"'\u00ab\u00bb\u2018\u201c\u201e\u300c\u300e]")
_SPEECH = re.compile(
    f"(?={_QUOTE.pattern})(?:"
    "\u201e[^\u201c\u201d\"]{5,400}[\u201c\u201d\"]|\u201c[^\u201d\"]{5,400}[\u201d\"]|\u00ab[^\u00bb]{5,400}\u00bb"
    "|\u00bb[^\u00ab]{5,400}\u00ab|\"[^\"]{5,400}\"|\u300c[^\u300d]{5,400}\u300d|\u300e[^\u300f]{5,400}\u300f"
    "|(?<!\\w)['\u2018](?=\\w)[^\n\u2018]{5,400}?[\\w.,!?]['\u2019](?!\\w))"
)  # fmt: skip
_DASH = re.compile("[\u2012-\u2015]")
_DIALOGUE = re.compile(r"^ ?[\u2012-\u2015] ?[^\n\u2012-\u2015]{1,300}[\s.,!?][\u2012-\u2015]", re.MULTILINE)

WIDE = "\u0e00-\u0e7f\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WIDE = re.compile(f"[{WIDE}]")
_GLUE = re.compile(rf"(?<=[{WIDE}]) | (?=[{WIDE}])")  # these are written without spaces, or with freely chosen ones
_THAI = re.compile("[\u0e00-\u0e7f]")
_THAI_SPACE = re.compile(r"(?<=[\u0e00-\u0e7f]) +(?=[\u0e00-\u0e7f])")
_THAI_BUT = re.compile(r"(?<=[\u0e00-\u0e7f]) +(?=แต่)")  # a clause of the same sentence
_SENTENCE_END = re.compile(r"[.!?\u3002\u061f\u06d4\u203d\n]+")
_JOINER = re.compile(r"[-\u2010\u2011\u05be](?<=\w.)(?=\w)")
_BETWEEN = re.compile(r"[^\w\s\u0e00-\u0e7f]+")


class Sentence(NamedTuple):
    """`words` with a space before, after and between them, and a comma between clauses; a script that is written
    without spaces has none. `starts` are the places of the spaces before each clause.
    """

    words: str
    starts: tuple[int, ...]


def folded(text: str) -> str:
    """One way of writing for what a reader takes for the same; punctuation stays."""
    if not text.isascii():
        text = _same_script(unicodedata.normalize("NFKC", text))
        text = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text)))
    return text.casefold().translate(_LETTERS)


def _same_script(text: str) -> str:
    """Cyrillic words spelled with Latin letters that look the same, and Latin ones with Cyrillic; other words stay."""
    if not (_CYRILLIC_ONLY.search(text) and _LATIN_ONLY.search(text)):
        return text
    return _MIXED.sub(lambda found: _spelled(found[0]), text)


@lru_cache(maxsize=4096)
def _spelled(word: str) -> str:
    cyrillic, latin = word.translate(_TO_CYRILLIC), word.translate(_TO_LATIN)
    if not _LATIN_ONLY.search(cyrillic):
        return cyrillic
    return word if _CYRILLIC_ONLY.search(latin) else latin


def sentences(text: str) -> list[Sentence]:
    """The first sentences of an answer, without what it quotes. An answer that is a quotation whole is no quotation."""
    seen = _seen(text)
    own = _SPEECH.sub(", ", seen) if _QUOTE.search(seen) else seen
    own = _DIALOGUE.sub(", ", own) if _DASH.search(own) else own
    if not any(c.isalpha() for c in own):
        own = seen
    own = folded(own)
    if not own.isascii() and _THAI.search(own):
        own = _THAI_SPACE.sub("\n", _THAI_BUT.sub(", ", own))
    found = []
    for part in _SENTENCE_END.split(own):
        sentence = _sentence(part)
        if sentence is not None:
            found.append(sentence)
            if len(found) == MAX_SENTENCES:
                break
    return found


def _seen(text: str) -> str:
    """The beginning of a text as a reader sees it: without markup and unseen characters, single spaces."""
    text = text[:MAX_RAW]
    if not text.isascii():
        text = _UNSEEN.sub("", text)
    if "&" in text:
        text = _UNSEEN.sub("", html.unescape(text))
    if "<" in text:
        text = _TAG.sub("", _BLOCK_TAG.sub("\n", text))
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    text = _SPACES.sub(" ", text)
    if _LINE_END.search(text):
        text = _LINES.sub("\n", text)
    text = text.strip()[: 2 * MAX_SEEN]
    return _EMPHASIS.sub("", _LINE_MARK.sub("", text))[:MAX_SEEN]


def _sentence(part: str) -> Sentence | None:
    words, starts = "", []
    for clause in _BETWEEN.split(_JOINER.sub(" ", part)):
        text = words_of(clause)
        if text:
            words += " ," if words else ""
            starts.append(len(words))
            words += f" {text}"
    return Sentence(f"{words} ", tuple(starts)) if starts else None


def words_of(clause: str) -> str:
    """Words with single spaces between them; none where the script needs none."""
    text = " ".join(clause.split())
    return _GLUE.sub("", text) if is_wide(text) else text


def is_wide(text: str) -> bool:
    """Whether a text is of a script whose words are not told by spaces."""
    return not text.isascii() and _WIDE.search(text) is not None
