"""`comprehension.json`: whether the model tells harmful from harmless prompts in one language, and how it answers."""

from __future__ import annotations

from typing import ClassVar

from refusalctl.records.estimates import Auroc, Interval
from refusalctl.records.record import Part, Record


class Harmfulness(Part, frozen=True):
    """How well held-out activations tell harmful from harmless prompts: mean AUROC within held-out topics."""

    auroc: Auroc
    topics: int  # groups of prompts that stay together in folds
    topics_from: str  # the text by which topics were told apart
    layers: tuple[int, ...]  # chosen in each fold
    position: str


class RefusalDifference(Part, frozen=True):
    """Refusals of harmful train prompts minus refusals of harmless ones, as shares.

    The limits take every missing label against either end. `bound`: what a difference must exceed to be clear, and stay
    below to be none.
    """

    refused_harmful: int
    n_harmful: int
    refused_harmless: int
    n_harmless: int
    unparsed: int
    value: float | None
    interval95: Interval
    interval90: Interval
    bound: float


class AnswerTopics(Part, frozen=True):
    """Mean share of other questions that an answer resembles less than its own, with a 95 % interval; 0.5 is chance."""

    proxy: str
    value: float
    low: float
    high: float
    n: int


class OwnText(Part, frozen=True):
    """Bits per byte of the language's own sentences and of their words in random order; None where none is usable."""

    n: int
    bits_per_byte: float | None
    shuffled_bits_per_byte: float | None


class Behaviour(Part, frozen=True):
    """Baseline answers to harmless train prompts. `in_language`: share of the `identified` in the language asked."""

    n: int
    answered: int
    in_language: float | None
    identified: int
    other_languages: dict[str, int]
    on_topic: AnswerTopics | None
    own_text: OwnText


class Comprehension(Record, frozen=True):
    """`passed` None where neither is shown; `harmfulness` None where there are too few prompts."""

    FORMAT: ClassVar[str] = "comprehension"
    FILE: ClassVar[str] = "comprehension.json"
    VERSION: ClassVar[int] = 3  # 2: the probe alone decided

    lang: str
    min_auroc: float
    caveat: str
    harmfulness: Harmfulness | None
    refusals: RefusalDifference
    behaviour: Behaviour
    concerns: tuple[str, ...]  # what speaks against comprehension; to be read, they do not decide
    passed: bool | None
    reason: str
