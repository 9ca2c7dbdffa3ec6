"""`report.json`: every number of a report's page."""

from __future__ import annotations

from typing import ClassVar

from refusalctl.records.cost import CostEffect
from refusalctl.records.record import Part, Record
from refusalctl.records.transfer import MissingCell, ModelKey, SettingsGroup, TransferCell
from refusalctl.records.verdict import VerdictValue


class Answer(Part, frozen=True):
    """One target's answer: the verdict that the page is marked with, and a sentence; None where nothing was judged."""

    value: VerdictValue | None
    sentence: str | None


class ExcludedPrompt(Part, frozen=True):
    """One prompt left out of one split, the reason, and the languages that it holds for. `artifact` shows it."""

    kind: str
    split: str
    id: str
    reason: str
    langs: tuple[str, ...]
    artifact: str | None = None


class ReportedRun(Part, frozen=True):
    """One transfer. `cells` holds baselines, ablations, harmless baselines and controls, in the page's order."""

    transfer: str  # artifact id
    geometry: str | None  # artifact id
    model: ModelKey
    settings: dict[str, SettingsGroup | tuple[str, ...]]
    answers: dict[str, Answer]  # by target
    cells: tuple[TransferCell, ...]
    missing: tuple[MissingCell, ...]
    excluded: tuple[ExcludedPrompt, ...]
    no_direction: dict[str, str]  # why a language has none
    costs: dict[str, tuple[CostEffect, ...]]  # panels by artifact id


class Report(Record, frozen=True):
    FORMAT: ClassVar[str] = "report"
    FILE: ClassVar[str] = "report.json"
    VERSION: ClassVar[int] = 5  # 4: without cost panels

    reference: str  # the source language that the page asks about first
    runs: tuple[ReportedRun, ...]
