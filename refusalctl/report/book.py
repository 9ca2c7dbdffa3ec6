"""A whole report as plain rows: transfers, each with its geometry, quality, exclusions and, asked for, texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from refusalctl.data.published_rates import PublishedRates, work
from refusalctl.records.geometry import LanguageGeometry
from refusalctl.records.report import ExcludedPrompt
from refusalctl.records.transfer import TransferCell
from refusalctl.report.content import Content, told_apart
from refusalctl.report.costs import CostPanel, check_placed, panels_of
from refusalctl.report.excluded import Reserve, Unfit, excluded, reserve
from refusalctl.report.provenance import Provenance, in_order
from refusalctl.report.quality import Quality, quality
from refusalctl.report.sources import content
from refusalctl.report.words import condition_name
from refusalctl.steps.completions import read_completions
from refusalctl.steps.counts import judged_outcomes
from refusalctl.steps.geometry import read_geometry
from refusalctl.store.store import Artifact, Store

MOST_TEXTS = 20  # per condition


class AnswerText(NamedTuple):
    prompt_id: str
    outcome: str
    text: str


class AnswerTexts(NamedTuple):
    """The first answers under one condition, of `n`."""

    target: str
    condition: str
    labels: str
    n: int
    rows: list[AnswerText]


@dataclass(frozen=True)
class Run:
    """One transfer and what belongs to it. `key` begins its element ids and, beside other runs, its file names."""

    key: str
    content: Content
    quality: Quality
    excluded: tuple[ExcludedPrompt, ...]
    unreadable: str | None
    reserve: tuple[Reserve, ...]
    geometry: LanguageGeometry | None
    geometry_id: str | None
    published: tuple[PublishedRates, ...]
    costs: tuple[CostPanel, ...] = ()
    texts: tuple[AnswerTexts, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class Book:
    """All runs of a report. `reference`: the source language that the page asks about first."""

    runs: tuple[Run, ...]
    reference: str
    with_published: bool
    with_text: bool
    sources: tuple[Artifact, ...] = field(repr=False, default=())

    @property
    def alike(self) -> list[list[Run]]:
        """Runs that asked the same of different models, together."""
        groups: dict[str, list[Run]] = {}
        for run in self.runs:
            s = run.content.settings
            asked = (s.sources, s.targets, s.prompts.data, s.answers.judge)
            groups.setdefault(repr(asked), []).append(run)
        return list(groups.values())

    @property
    def all_imported(self) -> bool:
        """Whether nothing on the page was measured here."""
        return all(run.content.imported is not None for run in self.runs)

    @property
    def several(self) -> bool:
        return len(self.runs) > 1


def reference_language(transfers: list[Artifact], wanted: str | None = None) -> str:
    """The given language, else English where it is a source, else the first source of the first transfer."""
    sources = [lang for t in transfers for lang in str(t.about["sources"]).split(",")]
    return wanted or ("en" if "en" in sources else sources[0])


def book(
    store: Store,
    transfers: list[Artifact],
    geometries: Mapping[str, Artifact],
    unfit: list[Unfit],
    *,
    reference: str,
    with_published: bool,
    with_text: bool,
    costs: Sequence[Artifact] = (),
) -> Book:
    """Read everything. `geometries` by transfer id; `unfit` per transfer; `costs` belong to the transfers whose
    directions they are of. Raises `BadInput` for one that belongs to none."""
    runs: list[Run] = []
    sources: dict[str, Artifact] = {}
    for i, (transfer, raw) in enumerate(zip(transfers, unfit, strict=True), start=1):
        found = Provenance(store, transfer)
        rows = content(store, transfer, found)
        geometry = geometries.get(transfer.id)
        sources |= found.by_id | ({geometry.id: geometry} if geometry else {})
        panels = panels_of(costs, rows, found)
        for each in costs:
            sources |= Provenance(store, each).by_id if each.id in [panel.id for panel in panels] else {}
        runs.append(
            Run(
                key=f"run{i}",
                content=rows,
                quality=quality(store, rows, found),
                excluded=tuple(excluded(raw, rows, found)),
                unreadable=raw.unreadable,
                reserve=tuple(reserve(raw, rows)),
                geometry=read_geometry(geometry) if geometry else None,
                geometry_id=geometry.id if geometry else None,
                published=_published(rows) if with_published else (),
                costs=panels,
                texts=tuple(_texts(rows, found)) if with_text else (),
            )
        )
    check_placed(costs, [panel.id for run in runs for panel in run.costs])
    labels = told_apart([run.content.model for run in runs])
    runs = [replace(r, content=replace(r.content, label=label)) for r, label in zip(runs, labels, strict=True)]
    return Book(tuple(runs), reference, with_published, with_text, tuple(in_order(sources.values())))


def _published(rows: Content) -> tuple[PublishedRates, ...]:
    return tuple(work().of(str(rows.model["name"]), list(rows.settings.sources)))


def _texts(rows: Content, found: Provenance) -> list[AnswerTexts]:
    result = []
    for row in rows.rows:
        if isinstance(row, TransferCell) and row.completions is not None:
            outcomes = judged_outcomes(found.by_id[row.labels])
            written = read_completions(found.by_id[row.completions])
            shown = [AnswerText(c.prompt_id, outcomes[c.prompt_id], c.text) for c in written[:MOST_TEXTS]]
            result.append(AnswerTexts(row.target, condition_name(row), row.labels, len(written), shown))
    return result
