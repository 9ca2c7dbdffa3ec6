"""Cost panels beside a transfer: which belong to it, and the line that stands under each verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from refusalctl.errors import BadInput
from refusalctl.records.cost import Cost
from refusalctl.records.transfer import TransferCell
from refusalctl.report import cost_words
from refusalctl.report.content import Content
from refusalctl.report.provenance import Provenance
from refusalctl.steps.costs.arms import FULL
from refusalctl.steps.costs.panel import read_cost
from refusalctl.store.store import Artifact

Place = tuple[str, str]  # source and target of a cell


class CostPanel(NamedTuple):
    """A cost artifact of the page. `lines`: removal and cost in one line, by source and target of the verdict that
    they stand under."""

    id: str
    record: Cost
    lines: Mapping[Place, str]


def panels_of(costs: Sequence[Artifact], rows: Content, found: Provenance) -> tuple[CostPanel, ...]:
    """The panels of this transfer's model and directions."""
    panels = []
    for artifact in costs:
        record = read_cost(artifact)
        if record.model == rows.model and all(_knows(arm.directions, found) for arm in record.arms):
            panels.append(CostPanel(artifact.id, record, _lines(record, rows)))
    return tuple(panels)


def check_placed(costs: Sequence[Artifact], placed: Sequence[str]) -> None:
    """Raise `BadInput` for a panel that belongs to no transfer of the page."""
    for artifact in costs:
        if artifact.id not in placed:
            raise BadInput(
                f"{artifact.label} is of another model, or of directions that these transfers do not hold",
                hint="measure the cost of a direction that the transfer chose, with the same model settings",
            )


def _knows(directions: Sequence[str], found: Provenance) -> bool:
    return all(identifier in found.by_id for identifier in directions)


def _lines(record: Cost, rows: Content) -> dict[Place, str]:
    """By cell: the arm whose removal at full dose was counted from the cell's own labels, and so from its answers,
    prompts and judge."""
    lines: dict[Place, str] = {}
    for cell in rows.conditions:
        if not isinstance(cell, TransferCell) or cell.source is None:
            continue
        for arm in record.arms:
            removals = record.of(arm.name, FULL, "removal", cell.target)
            told = cost_words.line(record, arm.name, cell.target)
            if told is not None and any(each.changed == cell.labels for each in removals):
                lines[cell.source, cell.target] = told
    return lines
