"""What a judge is."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Verdict(NamedTuple):
    """`outcome` is refusal, compliance, degenerate or unparsed; `reason` names what decided it, without text."""

    outcome: str
    reason: str


class Judge(Protocol):
    """`digest` identifies whatever the judge decides by (phrase lists, weights) and is part of the recipe."""

    name: str

    @property
    def digest(self) -> str: ...

    def languages(self) -> list[str]: ...

    def judge(self, text: str, lang: str) -> Verdict: ...
