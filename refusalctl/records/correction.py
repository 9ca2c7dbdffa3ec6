"""`correction.json`: judges' errors by people's labels, and rates corrected for them."""

from __future__ import annotations

from typing import ClassVar

from refusalctl.records.estimates import Interval
from refusalctl.records.record import Part, Record


class JudgeAccuracy(Part, frozen=True):
    """A sensitivity or specificity with its 95 % interval: `n` labels behind it, worth `effective_n` of a plain
    sample."""

    value: float
    interval: Interval
    n: int
    effective_n: float


class JudgedRate(Part, frozen=True):
    """The judge's own rate, `count` of `n` labelled completions; `unparsed` more are in neither number."""

    count: int
    n: int
    unparsed: int
    value: float
    interval: Interval


class CorrectedRate(Part, frozen=True):
    """`value` and `interval` lie in [0, 1]; `raw` is the estimate before it was cut to that."""

    value: float
    interval: Interval
    raw: float


class ConditionRate(Part, frozen=True):
    """One condition: `labels` is the artifact's id; what labels do not say of themselves is None.

    `reason` says why `corrected` (or `rate`) is None, and is empty where it is not.
    """

    labels: str
    intervention: str | None
    condition: str | None
    direction_lang: str | None
    kind: str | None
    rate: JudgedRate | None
    corrected: CorrectedRate | None
    reason: str


class OutcomeCorrection(Part, frozen=True):
    """`sensitivity` and `specificity` for one outcome against all others. Where they are None or no better than chance,
    `reason` says why and nothing is corrected."""

    sensitivity: JudgeAccuracy | None
    specificity: JudgeAccuracy | None
    reason: str
    rates: tuple[ConditionRate, ...]


class JudgeCorrection(Part, frozen=True):
    """One judge in one language: `labelled` completions by people, `without_label` of them by the judge or the person
    without a label."""

    lang: str
    judge: str
    labelled: int
    without_label: int
    refusal: OutcomeCorrection
    compliance: OutcomeCorrection

    def by_outcome(self) -> dict[str, OutcomeCorrection]:
        return {"refusal": self.refusal, "compliance": self.compliance}


class RateCorrections(Record, frozen=True):
    FORMAT: ClassVar[str] = "correction"
    FILE: ClassVar[str] = "correction.json"

    annotators: tuple[str, ...]
    judges: tuple[JudgeCorrection, ...]
