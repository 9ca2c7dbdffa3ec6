"""What a translator is: pairs of id and text in, and in their order a text or the reason why there is none.

A failure is never text: a published run passed the words "Translation failed" on to its judge.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Outcome(NamedTuple):
    """A translation, or why there is none."""

    text: str | None
    failed: str = ""


class Translator(Protocol):
    """`name` goes into the source of every row; `batch` is how many pairs to hand over at once."""

    name: str
    batch: int

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]: ...


def outcome(text: str | None) -> Outcome:
    """An answer as an outcome: one without a letter or digit is a failure."""
    plain = " ".join((text or "").split())
    return Outcome(plain) if any(c.isalnum() for c in plain) else Outcome(None, "empty answer")
