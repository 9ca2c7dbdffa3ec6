"""What a judge is: what it declares, what it is given, what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from refusalctl.language_codes import listed

NO_REFUSAL_LABEL = "this judge gives no refusal label"
MALFORMED = "malformed verdict"
CUT = "cut verdict"
UNFINISHED = "reasoning not finished"


class Verdict(NamedTuple):
    """`outcome` is refusal, compliance, degenerate or unparsed; `reason` names what decided it, without text.

    `harmful` is the harmfulness of the response, None where the judge does not say. `score` is the judge's own
    number (a probability of refusal, a rubric's score), None where it has none. `input_cut`: the judge saw only
    the beginning of the text, because its context is shorter.
    """

    outcome: str
    reason: str
    harmful: bool | None = None
    score: float | None = None
    input_cut: bool = False


class Item(NamedTuple):
    """One thing to judge. `prompt` is None where only the response is known.

    `unfinished`: the model's thought did not end, so that there is no answer.
    """

    prompt: str | None
    response: str
    lang: str
    unfinished: bool = False


@dataclass(frozen=True)
class Declaration:
    """A judge's facts, as its makers state them.

    `languages`: ISO codes its makers claim, None where they claim none by name. `model`: id on the Hugging Face hub,
    None for a judge without weights of its own. `verified`: the input format was read in `source`, and not inferred.
    `version` changes when format or parser do.
    """

    name: str
    languages: tuple[str, ...] | None
    licence: str
    source: str
    model: str | None = None
    size: str = "-"
    gated: bool = False
    refusal_label: bool = True
    harm_label: bool = False
    needs_prompt: bool = True
    verified: bool = True
    version: int = 1
    only_listed: bool = False  # a language that is not listed is an error, not a note
    endpoint: bool = False

    def knows(self, lang: str) -> bool:
        """Whether its makers claim a language; that of a region (`de-AT`) is the language, another script is not."""
        return self.languages is None or listed(lang, self.languages) is not None


class Judge(Protocol):
    """`digest` identifies whatever the judge decides by (phrases, weights, format) and is part of the recipe."""

    @property
    def declaration(self) -> Declaration: ...

    @property
    def digest(self) -> str: ...

    def judge_all(self, items: Sequence[Item], done: frozenset[int] = frozenset()) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come, in any order, each with the index of its item; indices in `done` are left out."""
        ...

    def release(self) -> None:
        """Give memory back; the next call loads again."""
        ...


def harm_only(harmful: bool | None, reason: str = NO_REFUSAL_LABEL) -> Verdict:
    """The verdict of a judge without refusal label: never compliance, whatever it says about harm."""
    return Verdict("unparsed", reason, harmful)


def unparsed(reason: str) -> Verdict:
    return Verdict("unparsed", reason)
