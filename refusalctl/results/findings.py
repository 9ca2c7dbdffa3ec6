"""What was found: scores, gates, controls, matrices, reports."""

from __future__ import annotations

import webbrowser
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from refusalctl.report import cost_words
from refusalctl.report.make import files_of
from refusalctl.report.transfer_words import cell_rows, sentences, verdict_of
from refusalctl.results.base import Result, Table
from refusalctl.steps.calibrate import read_calibration
from refusalctl.steps.comparison import read_comparison
from refusalctl.steps.comprehension import read_comprehension
from refusalctl.steps.costs.benchmark import read_items
from refusalctl.steps.costs.drift import read_drift
from refusalctl.steps.costs.losses import read_losses
from refusalctl.steps.costs.panel import read_cost
from refusalctl.steps.geometry import read_geometry
from refusalctl.steps.labelling.correction import read_correction
from refusalctl.steps.labelling.panel import read_panel
from refusalctl.steps.selection.control_effects import read_controls
from refusalctl.steps.selection.openings import read_openings
from refusalctl.steps.transfer import read_transfer

if TYPE_CHECKING:
    import pandas as pd

    from refusalctl import records
    from refusalctl.records.calibration import CalibrationTrial, Grade, Question
    from refusalctl.records.comparison import ComparedCell
    from refusalctl.records.correction import JudgeCorrection
    from refusalctl.records.cost_rows import BenchmarkItem, DocumentLoss, PromptDrift
    from refusalctl.records.geometry import LanguagePair, Sites
    from refusalctl.records.panel import LanguagePanel


class Scores(Result):
    """Scores of every candidate on validation prompts."""

    kind = "scores"


class Cosmic(Result):
    """COSMIC's cosines of every candidate."""

    kind = "cosmic"


class Openings(Result):
    """How refusals open in one language, and whether that was confirmed on other prompts."""

    kind = "openings"

    @cached_property
    def record(self) -> records.openings.Openings:
        """The openings, where they come from, and how they rank judged refusals."""
        return read_openings(self.artifact)


class Controls(Result):
    """What control directions do in one cell, beside the real direction."""

    kind = "controls"

    @cached_property
    def record(self) -> records.controls.Controls:
        """Drop of the refusal score under the real direction and under its control draws, with p."""
        return read_controls(self.artifact)


class Comprehension(Result):
    """Whether the model tells harmful from harmless prompts in one language."""

    kind = "comprehension"

    @cached_property
    def record(self) -> records.comprehension.Comprehension:
        """The gate with its reason, the AUROC behind it, and how harmless prompts were answered."""
        return read_comprehension(self.artifact)


class Geometry(Result):
    """How alike the languages' directions are, beside their noise ceiling and chance."""

    kind = "geometry"

    @cached_property
    def record(self) -> records.geometry.LanguageGeometry:
        """Everything that was compared: curves over layers, both places, and what was asked."""
        return read_geometry(self.artifact)

    @property
    def sites(self) -> Sites:
        """What was measured where the refusal direction is read, and where harmfulness is."""
        return self.record.sites

    @property
    def pos(self) -> int:
        return self.sites.refusal.pos

    @property
    def layer(self) -> int:
        return self.sites.refusal.layer

    @property
    def pairs(self) -> tuple[LanguagePair, ...]:
        """Every pair of languages at the refusal place: cosine, ceiling, chance."""
        return self.sites.refusal.pairs


class Cost(Result):
    """What interventions break, beside what they remove."""

    kind = "cost"

    @cached_property
    def record(self) -> records.cost.Cost:
        """Every effect of every arm at every dose, matched doses, and what could not be measured."""
        return read_cost(self.artifact)

    @cached_property
    def effects(self) -> Table:
        """One row per arm, dose and measure: before, after, difference with its limits."""
        return Table([cost_words.effect_row(each) for each in self.record.effects])

    def sentences(self) -> list[str]:
        """Removal and cost in one line per arm and language."""
        return cost_words.sentences(self.record)

    def to_pandas(self) -> pd.DataFrame:
        return self.effects.to_pandas()

    def words(self) -> list[str]:
        return self.sentences()


class Losses(Result):
    """How well the model predicts texts or its own answers, document by document."""

    kind = "losses"

    @cached_property
    def rows(self) -> list[DocumentLoss]:
        """Nats, tokens and bytes of every document."""
        return read_losses(self.artifact)


class Drift(Result):
    """KL of the next token from the baseline, prompt by prompt."""

    kind = "drift"

    @cached_property
    def rows(self) -> list[PromptDrift]:
        """Nats of every prompt."""
        return read_drift(self.artifact)


class Benchmark(Result):
    """An lm-eval task under one intervention, item by item."""

    kind = "benchmark"

    @cached_property
    def rows(self) -> list[BenchmarkItem]:
        """Hashes and scores of every item; no text."""
        return read_items(self.artifact)


class Panel(Result):
    """Agreement of several judges."""

    kind = "panel"

    @cached_property
    def record(self) -> records.panel.PanelAgreement:
        """Agreement and votes, and who judged."""
        return read_panel(self.artifact)

    @property
    def languages(self) -> dict[str, LanguagePanel]:
        """Agreement and votes per language."""
        return self.record.languages


class Correction(Result):
    """A judge's rates, corrected by people's labels."""

    kind = "correction"

    @cached_property
    def record(self) -> records.correction.RateCorrections:
        """Every judge's errors and rates, and who labelled."""
        return read_correction(self.artifact)

    @property
    def judges(self) -> tuple[JudgeCorrection, ...]:
        """Per language and judge: sensitivity, specificity, and rates with their corrections."""
        return self.record.judges


class Calibration(Result):
    """Verdicts on model organisms beside their known truth."""

    kind = "calibration"

    @cached_property
    def record(self) -> records.calibration.CalibrationTrials:
        """Every trial."""
        return read_calibration(self.artifact)

    @property
    def trials(self) -> tuple[CalibrationTrial, ...]:
        """Each organism at each size: its verdicts graded, and how near the chosen vectors are to what was planted."""
        return self.record.trials

    def count(self, design: str | None = None) -> dict[Grade, int]:
        """Verdicts by grade (right, rightly undecided, missed, wrong), of one design or of all."""
        return self.record.count(design)


class Transfer(Result):
    """Every source in every target: rates, removals and verdicts."""

    kind = "transfer"

    @cached_property
    def record(self) -> records.transfer.Transfer:
        """The whole matrix; docs/formats/transfer.schema.json is its schema."""
        return read_transfer(self.artifact)

    @cached_property
    def cells(self) -> Table:
        """One row per target, source and condition: counts, what was removed with its limits, and the verdict."""
        return Table(cell_rows(self.artifact))

    def verdict(self, source: str, target: str, question: Question = "removal") -> str | None:
        """One of the five verdicts on removal or induction; None where the cell was not measured. Raises `BadInput`
        for another question."""
        return verdict_of(self.artifact, source, target, question)

    @cached_property
    def matrix(self) -> Table:
        """Sources down, targets across, a verdict in each cell."""
        targets = str(self.about["targets"]).split(",")
        sources = list(dict.fromkeys((*str(self.about["sources"]).split(","), *targets)))
        return Table([{"from": s} | {t: self.verdict(s, t) for t in targets} for s in sources])

    def sentences(self) -> list[str]:
        """One sentence per target: baseline, each direction's verdict with its reason, what n can show."""
        return sentences(self.artifact)

    def to_pandas(self) -> pd.DataFrame:
        return self.cells.to_pandas()

    def words(self) -> list[str]:
        return self.sentences()

    def _repr_html_(self) -> str:
        return super()._repr_html_() if self.planned else self.matrix._repr_html_() + super()._repr_html_()


class Comparison(Result):
    """Two transfers cell by cell, on the same prompts where their ids agree."""

    kind = "comparison"

    @cached_property
    def record(self) -> records.comparison.Comparison:
        """Every cell that both hold, what differs between them, and the cells that only one holds."""
        return read_comparison(self.artifact)

    @property
    def cells(self) -> tuple[ComparedCell, ...]:
        """Every cell that both transfers hold."""
        return self.record.cells


class Report(Result):
    """One self-contained page with its figures and tables."""

    kind = "report"

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    def in_format(self, kind: str) -> list[Path]:
        """Files in one format: html, md, csv, latex, json, png, svg or pdf. Raises `BadInput` for another."""
        return files_of(self.artifact, kind)

    @property
    def files(self) -> list[Path]:
        return [self.path / name for name in self.artifact.manifest["files"]]

    def open(self) -> bool:
        """Show the page in a browser. False where none could be started."""
        return webbrowser.open(self.page.resolve().as_uri())
