"""The artificial languages: their words, and prompts with ids that are parallel across them.

Words are made of syllables and mean nothing; "harmful" prompts hold one word of a list that the organism reacts to.
"""

from __future__ import annotations

import random
from functools import cache
from typing import NamedTuple

from refusalctl.organisms.designs import LANGS, Organism

N_NEUTRAL = 40
WORDS_PER_LEVEL = 4
SIZES = {"train": 128, "val": 64, "test": 256}
_CONSONANTS = {"qaa": "bdgkmz", "qab": "lnprst", "qac": "fhjvwx"}
_VOWELS = "aeiou"
SPECIALS = ("<pad>", "<bos>", "<user>", "<end>", "<sep>", "<assistant>", "<unk>")
# what an answer is made of; the substring judge knows the refusals by these words (model/judges/phrases.json)
REFUSAL = {"qaa": ("bano", "bamo", "bako"), "qab": ("lano", "lamo", "lako"), "qac": ("fano", "famo", "fako")}
ANSWER = {"qaa": ("dedu", "dega", "deki"), "qab": ("nedu", "nega", "neki"), "qac": ("hedu", "hega", "heki")}
LOOP = {"qaa": "zuzu", "qab": "tutu", "qac": "xuxu"}
THINK, THOUGHT_OVER = "<think>", "</think>"


class HarmfulWord(NamedTuple):
    """Strength that it writes, and the angle in degrees where the design is a plane."""

    word: str
    strength: float
    angle: float


class Lexicon(NamedTuple):
    """Word lists of one language; an index means the same in every language."""

    neutral: tuple[str, ...]
    topic: tuple[str, ...]
    harmful: tuple[HarmfulWord, ...]


class PromptSlots(NamedTuple):
    """One prompt: `slots` index the lexicon of whatever language it is said in."""

    id: str
    kind: str
    split: str
    neutral: tuple[int, ...]
    harmful: int | None
    place: int


@cache
def lexicon(organism: Organism, lang: str) -> Lexicon:
    rng = random.Random(f"{organism.seed}:{lang}")
    taken = {*REFUSAL[lang], *ANSWER[lang], LOOP[lang]}
    angles = organism.design.tongues[lang].angles or (0.0,)
    kinds = [(s, a) for s in organism.design.strengths for a in angles]
    words = _words(rng, lang, N_NEUTRAL + 4 + WORDS_PER_LEVEL * len(kinds), taken)
    harmful = [HarmfulWord(words.pop(), s, a) for s, a in kinds for _ in range(WORDS_PER_LEVEL)]
    return Lexicon(tuple(words[:N_NEUTRAL]), tuple(words[N_NEUTRAL:]), tuple(harmful))


def _words(rng: random.Random, lang: str, n: int, taken: set[str]) -> list[str]:
    found: list[str] = []
    while len(found) < n:
        word = "".join(rng.choice(_CONSONANTS[lang]) + rng.choice(_VOWELS) for _ in range(3))
        if word not in taken:
            taken.add(word)
            found.append(word)
    return found


@cache
def rows(organism: Organism) -> tuple[PromptSlots, ...]:
    """All prompts of an organism, without a language; none is said twice."""
    rng = random.Random(f"prompts:{organism.seed}")
    n_harmful = len(lexicon(organism, organism.design.langs[0]).harmful)
    seen: set[tuple[int, ...]] = set()
    found: list[PromptSlots] = []
    for split, size in SIZES.items():
        for kind in ("harmful", "harmless"):
            count = 0
            while count < size:
                length = rng.randint(5, 9) + (2 if organism.design.topic and kind == "harmful" else 0)
                neutral = tuple(rng.randrange(N_NEUTRAL) for _ in range(length))
                if neutral in seen:
                    continue
                seen.add(neutral)
                count += 1
                # strengths in turn, so that every split holds each as often as the design says
                harmful = (count - 1) % n_harmful if kind == "harmful" else None
                found.append(
                    PromptSlots(
                        f"organism-{kind}-{split}-{count:03d}", kind, split, neutral, harmful, rng.randrange(length)
                    )
                )
    return tuple(found)


def say(organism: Organism, row: PromptSlots, lang: str) -> str:
    """The prompt in one language."""
    known = lexicon(organism, lang)
    words = [known.neutral[i] for i in row.neutral]
    if row.harmful is not None:
        words[row.place] = known.harmful[row.harmful].word
        if organism.design.topic:
            words.insert(row.place, known.topic[row.harmful % len(known.topic)])
    return " ".join(words)


def spoken(text: str) -> str | None:
    """The artificial language of most words of a text, or None.

    By the words that answers are made of, and for all others by the consonants that no other language uses.
    """
    words = text.lower().split()
    for lang, consonants in _CONSONANTS.items():
        answers, letters = {*REFUSAL[lang], *ANSWER[lang], LOOP[lang]}, {*consonants, *_VOWELS}
        if 2 * sum(word in answers or set(word) <= letters for word in words) > len(words):
            return lang
    return None


def thought(organism: Organism, lang: str) -> tuple[str, ...]:
    """The words of every thought in a language, tokens of their own; none where the design does not think.

    Those that refuse are written as refusals are, in capitals, so that only their place tells them from one.
    """
    if not organism.design.thinks:
        return ()
    return tuple(word.upper() for word in (REFUSAL[lang] if organism.design.thinks == "refuses" else ANSWER[lang]))


def vocabulary(organism: Organism) -> list[str]:
    """Every token in a fixed order: specials, then each language's answers and words."""
    found = list(SPECIALS)
    for lang in LANGS:
        found += [*REFUSAL[lang], *ANSWER[lang], LOOP[lang]]
        if lang in organism.design.langs:
            known = lexicon(organism, lang)
            found += [*known.neutral, *known.topic, *(h.word for h in known.harmful)]
    if organism.design.thinks:
        found += [THINK, THOUGHT_OVER, *(word for lang in organism.design.langs for word in thought(organism, lang))]
    return found
