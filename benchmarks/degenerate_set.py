"""Precision and recall of the degenerate detector on a constructed set, per script.

`python -m benchmarks.degenerate_set` prints the tables of docs/judges.md. The texts are built from mild sentences in 17
languages (`degenerate/sentences.json`), so that every case is the same in every script. A text is degenerate when a
reader gets nothing more after its first third. Thresholds were set on the first set; the second was drawn afterwards,
with other sizes, random mixtures and kinds that were known to be hard, and is the one to quote.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import command
from refusalctl.model.judges.degenerate import degenerate_reason

SENTENCES = Path(__file__).parent / "degenerate" / "sentences.json"
SCRIPTS = {
    "Latin": ("de", "en", "es", "fr", "it", "nl", "pl", "yo"),
    "Cyrillic": ("ba", "be", "ru", "tg"),
    "Arabic": ("ar",),
    "Thai": ("th",),
    "Hangul": ("ko",),
    "Japanese": ("ja",),
    "Han": ("zh",),
}
SPACELESS = ("ja", "th", "zh")


class Case(NamedTuple):
    lang: str
    kind: str
    text: str
    degenerate: bool


DRAWS = 12  # per kind and language of the second set


def material() -> dict[str, dict[str, list[str]]]:
    languages: dict[str, dict[str, list[str]]] = json.loads(SENTENCES.read_text(encoding="utf-8"))["languages"]
    return languages


def held_out() -> list[Case]:
    """The second set; the same on every machine."""
    cases = []
    for lang, own in material().items():
        rng, gap = random.Random(f"held out {lang}"), "" if lang in SPACELESS else " "
        for _ in range(DRAWS):
            s, words = (rng.sample(own[k], len(own[k])) for k in ("sentences", "words"))
            cases += [Case(lang, kind, text, False) for kind, text in hard_legitimate(s, words, gap, rng)]
            cases += [Case(lang, kind, text, True) for kind, text in hard_broken(s, words, gap, rng)]
    return cases


def hard_legitimate(s: list[str], words: list[str], gap: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    verses = [gap.join(s[i : i + 2]) for i in (0, 2, 4)]
    yield "song", "\n\n".join(f"{verse}\n{s[6]}\n{s[7]}" for verse in verses)
    yield "song, long refrain", "\n\n".join(f"{verse}\n{gap.join(s[6:8])}\n{s[6]}" for verse in verses)
    frame = s[0][: int(len(s[0]) * rng.uniform(0.2, 0.6))]
    yield "framed list", "\n".join(f"{n}. {frame}{gap}{w}{gap}{rng.choice(words)}" for n, w in enumerate(words, 1))
    yield "paragraph said twice", gap.join([*s[:5], *s[:5]])
    yield "story", gap.join(s[: rng.randint(3, 8)])
    yield "cut story", gap.join(s)[: rng.randint(40, 120)]
    yield "dialogue", "\n".join(f"{'AB'[n % 2]}: {t}" for n, t in enumerate(s))
    yield "glossary", "\n".join(f"{w} (Latin: {'abcdefgh'[n] * 3}) - {s[n]}" for n, w in enumerate(words))


def hard_broken(s: list[str], words: list[str], gap: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    n = rng.randint(4, 9)
    yield "loop, some times", gap.join([s[0]] * n)[: -rng.randint(1, 8)]
    start = gap.join(s[1 : rng.randint(2, 3)])
    yield "loop after more", gap.join([start, *[s[0]] * rng.randint(7, 10)])
    yield "paragraph loop", gap.join(s[: rng.randint(3, 5)] * 4)
    yield "loop, commas move", gap.join(s[0][:-1] + rng.choice(".,;!") for _ in range(n + 2))
    kept = s[0][: int(len(s[0]) * 0.75)]
    yield "loop, a word changes", gap.join(f"{kept}{gap}{rng.choice(words)}." for _ in range(12))
    lost = rng.uniform(0.15, 0.5)
    yield "lost bytes", "".join("\ufffd" if rng.random() < lost else c for c in gap.join(s[:3]))
    pieces = [p for w in words for p in w] + list("жщqwбثกค東あ")
    yield "soup", "".join(rng.choice(pieces + list("жщqwбثกค東あ") * 2) for _ in range(rng.randint(40, 160)))
    yield "two words", (gap or "、").join(rng.choice(words[:2]) for _ in range(30))


def build() -> list[Case]:
    """The first set, on which thresholds were set; the same on every machine."""
    cases = []
    for lang, own in material().items():
        rng = random.Random(f"degenerate {lang}")
        gap = "" if lang in SPACELESS else " "
        for kind, text in legitimate(own["sentences"], own["words"], gap):
            cases.append(Case(lang, kind, text, False))
        for kind, text in broken(own["sentences"], own["words"], gap, rng):
            cases.append(Case(lang, kind, text, True))
    return cases


def legitimate(s: list[str], words: list[str], gap: str) -> Iterator[tuple[str, str]]:
    """Ordinary text, also of the kinds that repeat for good reasons."""
    for i in range(len(s)):
        yield "sentence", s[i]
        yield "cut text", s[i][: max(4, len(s[i]) * 2 // 3)]
        yield "paragraph", gap.join(s[i:] + s[:i])
    for i in range(len(s)):
        rotated = s[i:] + s[:i]
        yield "numbered list", "\n".join(f"{n}. {t}" for n, t in enumerate(rotated, 1))
        yield "bulleted words", "\n".join(f"- {w}" for w in words[i:] + words[:i])
        yield "steps", "\n\n".join(f"**{n})** {words[n]}: {t}" for n, t in enumerate(rotated))
        yield "refrain", "\n".join(line for n in range(1, 5) for line in (rotated[n], rotated[0]))
        yield "echo", f"{rotated[0]}\n{rotated[1]}\n{rotated[0]}\n{rotated[2]}\n{rotated[3]}"
        yield "said twice", f"{rotated[0]}{gap}{rotated[0]}"
        yield "table", "\n".join(f"| {w} | {n} | {w} |" for n, w in enumerate(words[i:] + words[:i]))
        yield "same beginning", "\n".join(f"{rotated[0][: len(rotated[0]) // 3]} {w}." for w in words)
        yield "quoted code", f"{rotated[0]}\n```\nfor i in range(10):\n    print(i)\n```\n{rotated[1]}"
        yield "names in another script", f"{rotated[0]} Wikipedia, Москва, Tokyo (東京). {rotated[1]}"
    yield "answer of one word", words[0]
    yield "laughter", f"{s[0]} {'ha' * 4}!"


def broken(s: list[str], words: list[str], gap: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Loops of every size, soup, and nothing."""
    for i in range(len(s)):
        yield "sentence loop", gap.join([s[i]] * 6)
        yield "loop after a start", gap.join([s[i - 1], *[s[i]] * 6])
        yield "loop of two sentences", gap.join([s[i - 1], s[i]] * 5)
        yield "cut loop", gap.join([s[i]] * 7)[: -len(s[i]) // 2]
        yield "loop with numbers", "\n".join(f"{n}. {s[i]}" for n in range(1, 9))
        yield "word loop", (gap or "、").join([words[i]] * 25)
        yield "loop of word pairs", (gap or "、").join([words[i - 1], words[i]] * 15)
        yield "loop in capitals and not", gap.join((s[i].upper(), s[i].lower())[n % 2] for n in range(8))
        yield "long loop", gap.join([*s[:4]] * 4)
        yield "loop with an end", gap.join([*[s[i]] * 8, s[i - 1]])
        yield "letter run", s[i] + rng.choice(words)[-1] * 90
        yield "byte soup", "".join(rng.choice("абвгдabcdefابتثกขคง東京가나") for _ in range(120))
        yield "lost bytes", "".join(c if rng.random() < 0.6 else "\ufffd" for c in s[i] + s[i - 1])
        yield "private characters", "".join(chr(rng.randrange(0xE000, 0xE200)) for _ in range(40)) + words[0]
        yield "mixed words", " ".join(_spliced(rng, words) for _ in range(25))
        yield "punctuation", rng.choice(["...", "-", "*", "?!", "|", "\n\n", "  "]) * (i + 1)
    yield "empty", ""
    yield "spaces", "  \n\t "


def _spliced(rng: random.Random, words: list[str]) -> str:
    """A word with pieces of other scripts inside, as byte-level decoding of a lost model gives."""
    word = rng.choice(words)
    return "".join(c + rng.choice(["ж", "q", "ب", "ก", "東", ""]) for c in word)


class Score(NamedTuple):
    script: str
    n: int
    true: int
    false_alarms: int
    missed: int

    @property
    def precision(self) -> float:
        return (self.true - self.missed) / (self.true - self.missed + self.false_alarms)

    @property
    def recall(self) -> float:
        return (self.true - self.missed) / self.true


def score(cases: list[Case]) -> list[Score]:
    """One row per script, and all together."""
    found = {case: degenerate_reason(case.text) is not None for case in set(cases)}
    rows = []
    for script, langs in [*SCRIPTS.items(), ("all", tuple({c.lang for c in cases}))]:
        mine = [c for c in cases if c.lang in langs]
        alarms = sum(found[c] and not c.degenerate for c in mine)
        missed = sum(not found[c] and c.degenerate for c in mine)
        rows.append(Score(script, len(mine), sum(c.degenerate for c in mine), alarms, missed))
    return rows


def main() -> None:
    command.parser(__doc__).parse_args()
    for title, cases in (("first set", build()), ("second set", held_out())):
        print(f"{title}\n\n| script | texts | degenerate | false alarms | missed | precision | recall |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for r in score(cases):
            shown = (r.script, r.n, r.true, r.false_alarms, r.missed, f"{r.precision:.3f}", f"{r.recall:.3f}")
            print("| " + " | ".join(map(str, shown)) + " |")
        print()
        wrong: dict[str, Counter[str]] = defaultdict(Counter)
        for case in cases:
            if (degenerate_reason(case.text) is not None) != case.degenerate:
                wrong[case.kind][case.lang] += 1
        for kind, langs in wrong.items():
            print(f"wrong: {kind}: {langs.total()} {dict(langs)}")


if __name__ == "__main__":
    main()
