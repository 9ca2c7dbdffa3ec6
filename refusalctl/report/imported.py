"""A matrix of labels that others published, arranged for a report: its checks, and what can be concluded from it."""

from __future__ import annotations

from collections.abc import Iterable

from refusalctl.data.languages import name as language_name
from refusalctl.errors import Corrupt
from refusalctl.records.transfer import ImportedMatrix, MissingCell, Transfer, TransferCell
from refusalctl.records.verdict import Verdict
from refusalctl.report.content import Content, Row
from refusalctl.report.provenance import Provenance
from refusalctl.settings import Settings
from refusalctl.steps.counts import judged_outcomes
from refusalctl.store.artifact import Artifact


def imported_content(found: Provenance, transfer: Artifact, record: Transfer, imported: ImportedMatrix) -> Content:
    """Cells of the matrix, given or missing, in the page's order. Raises `Corrupt` where its parts contradict."""
    asked = Settings.from_json(record.settings)
    for cell in (*record.cells, *record.harmless.values()):
        _check(found, transfer, cell, str(record.model["name"]))
    by_cell: dict[tuple[str, str | None], Row] = {(each.target, each.source): each for each in imported.missing}
    by_cell |= {(each.target, each.source): each for each in record.cells if each.condition != "induced"}
    wanted = [
        (target, source)
        for target in asked.targets
        for source in (None, *(each for each in asked.sources if each != target), target)
    ]
    if set(by_cell) != set(wanted):
        raise Corrupt(f"{transfer.label}: its cells are not those that its settings name", hint=_HINT)
    baselines = [each for each in record.cells if each.condition == "baseline"]
    return Content(
        transfer=transfer.id,
        record=record,
        settings=asked,
        conditions=tuple(by_cell[each] for each in wanted),
        others=tuple(each for each in record.cells if each.condition == "induced"),
        choices={},
        drawn={},
        same_prompts=len({frozenset(judged_outcomes(found.by_id[each.labels])) for each in baselines}) == 1,
        nulls=(),
        sources=tuple(found.sorted()),
        label=str(record.model["name"]),
    )


_HINT = "see `refusalctl artifacts verify`, and run `transfer --from-labels` again"


def _check(found: Provenance, transfer: Artifact, cell: TransferCell, model: str) -> None:
    """A cell's labels are there, add up, and say of themselves what the matrix says of them."""
    where = f"{transfer.label}: cell {cell.key} ({cell.prompts})"
    labels = found.by_id.get(cell.labels)
    if labels is None or cell.n != cell.counts.labelled + cell.counts.unparsed:
        raise Corrupt(f"{where} names labels that it lacks, or its counts do not add up to n", hint=_HINT)
    about = labels.about
    said = (about["model"], about["lang"], about["kind"], about.get("direction_lang"))
    if said != (model, cell.target, cell.prompts, cell.source):
        raise Corrupt(f"{where} is of {labels.label}, which says something else of itself", hint=_HINT)


def conclusions(rows: Content) -> list[str]:
    """What a matrix of imported labels shows and what it leaves open, one sentence for each kind of cell."""
    groups: dict[str, list[Row]] = {}
    for each in rows.conditions:
        if isinstance(each, MissingCell):
            groups.setdefault("absent" if each.condition == "transferred" else "no own", []).append(each)
        elif each.removal is not None:
            groups.setdefault(_kind(each.removal, rows.limits.margin), []).append(each)
    limits = {kind: _span(cells) for kind, cells in groups.items() if kind in ("fall", "rise")}
    return [
        f"{_where(groups[kind])}: {told.format(limits=limits.get(kind))}"
        for kind, told in _SAYS.items()
        if kind in groups
    ]


_BEYOND = (
    "refusals {what} by more than the margin under ablation ({{limits}} points, 95 % limits). That the labels do so "
    "is no chance; that the direction does it, and not damage that any ablation does, is not shown."
)
_SAYS = {
    "fall": _BEYOND.format(what="fall"),
    "rise": _BEYOND.format(what="rise"),
    "still": "refusals change by less than the margin (90 % limits). Without an own direction that works, "
    "nothing tells a direction that does nothing from a language in which nothing can be done.",
    "open": "the labels leave it open; the reasons stand with the cells.",
    "absent": "nothing can be said; no labels under this direction could be paired.",
}


def _kind(verdict: Verdict, margin: float) -> str:
    """What the limits of a cell show, whatever the verdict lacks."""
    at95, at90 = verdict.limits95, verdict.limits90
    if at95 is not None and at95.low > margin:
        return "fall"
    if at95 is not None and at95.high < -margin:
        return "rise"
    return "still" if at90 is not None and -margin < at90.low and at90.high < margin else "open"


def _where(cells: Iterable[Row]) -> str:
    by_source: dict[str, list[str]] = {}
    for each in cells:
        by_source.setdefault(str(each.source), []).append(language_name(each.target))
    return "; ".join(f"{language_name(source)} direction in {', '.join(names)}" for source, names in by_source.items())


def _span(cells: Iterable[Row]) -> str:
    """The outermost limits of several cells, in points."""
    verdicts = [each.removal for each in cells if isinstance(each, TransferCell) and each.removal is not None]
    ends = sorted(abs(end) for verdict in verdicts for end in verdict.limits95 or ())
    return f"{ends[0] * 100:.0f} to {ends[-1] * 100:.0f}"
