"""`panel.json`: how far several judges of the same completions agree, and what they say together."""

from __future__ import annotations

from typing import ClassVar, Literal

from refusalctl.records.estimates import Interval
from refusalctl.records.record import Part, Record
from refusalctl.records.rows import Outcome

VoteRule = Literal["majority", "unanimous"]


class JudgeAgreement(Part, frozen=True):
    """Agreement beyond chance over the `n` completions that all of the judges labelled; `left_out` more lack a label.

    `kappa` is None where it is undefined, which `undefined` explains; `interval` (95 %) None where there is none.
    `ac1`: Gwet's AC1, which does not fall where one outcome prevails; None where nothing was labelled, and in records
    that were made before it was computed.
    """

    kappa: float | None
    interval: Interval | None
    n: int
    agree: int
    left_out: int
    undefined: str
    ac1: float | None = None
    ac1_interval: Interval | None = None


class Disagreement(Part, frozen=True):
    """One way in which two judges differ: `n` completions, each named by its completions (short id, or the condition of
    labels without text) and prompt id."""

    first: Outcome
    second: Outcome
    n: int
    where: tuple[tuple[str, str], ...]


class JudgePair(Part, frozen=True):
    """Two judges by name; the most frequent disagreement first."""

    first: str
    second: str
    agreement: JudgeAgreement
    disagreements: tuple[Disagreement, ...]


class LanguagePanel(Part, frozen=True):
    """All completions of one language. `all_judges` is None for two judges, whose pair says it. `ties` are named as
    disagreements are."""

    n: int
    pairs: tuple[JudgePair, ...]
    all_judges: JudgeAgreement | None
    votes: dict[Literal[Outcome, "tie"], int]
    ties: tuple[tuple[str, str], ...]


class PanelAgreement(Record, frozen=True):
    """`labels`: by completions and judge, the id of the labels artifact. `languages`: by language code."""

    FORMAT: ClassVar[str] = "panel"
    FILE: ClassVar[str] = "panel.json"
    VERSION: ClassVar[int] = 3  # 2: before AC1

    judges: tuple[str, ...]
    rule: VoteRule
    labels: dict[str, dict[str, str]]
    languages: dict[str, LanguagePanel]
