"""`refusalctl transfer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import out
from refusalctl.cli.goal_options import GoalOptions
from refusalctl.cli.goals import work_through
from refusalctl.cli.session import EVERYTHING, Session, asks

if TYPE_CHECKING:
    from refusalctl.results import Transfer


@asks(*EVERYTHING, probe=True, goals=True)
def transfer(
    session: Session,
    labels: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LABELS]...", help="With --from-labels: imported labels, or a query that fits them."),
    ] = None,
    from_labels: Annotated[
        bool, typer.Option("--from-labels", help="Measure nothing: make the matrix of imported labels.")
    ] = False,
) -> None:
    """Try every source's direction in every target language, and give each pair a verdict."""
    if bool(labels) != from_labels:
        raise typer.BadParameter("give labels and --from-labels together: `transfer --from-labels LABELS...`")
    if from_labels:
        if session.goals != GoalOptions():
            raise typer.BadParameter("--from-labels computes no goals: leave out their options")
        session.finish(_shown(session.study.transfer(from_labels=labels)))
        return
    check_languages(session)
    with work_through(session, "transfer") as whole:
        if not whole:
            return
        found = session.study.transfer()
    session.finish(_shown(found), forecast=True)


def _shown(found: Transfer) -> Transfer:
    if not found.planned:
        show_matrix(found)
    return found


def check_languages(session: Session) -> None:
    """Usage error where no languages are named."""
    if not session.asked.settings.sources or not session.asked.settings.targets:
        raise typer.BadParameter("give --sources and --targets, or a file that names them")


def show_matrix(found: Transfer) -> None:
    """Refusal rates and verdicts of every cell, and a sentence per target, on stderr."""
    heads = ("target", "condition", "source", "n", "refusal", "95 %", "degenerate", "paired", "removal", "induction")
    out.table_err(heads, [_row(cell) for cell in found.cells])
    for sentence in found.sentences():
        out.info(sentence)


def _row(cell: Mapping[str, Any]) -> tuple[object, ...]:
    rate = "no label" if cell["refusal"] is None else f"{cell['refusal']:.0%}"
    limits = "" if cell["low"] is None else f"[{cell['low']:.0%}, {cell['high']:.0%}]"
    moved = "" if cell["removed"] is None else f"{cell['removed']} removed, {cell['gained']} gained"
    dose = f" x {cell['dose']:g}" if cell["dose"] not in (None, 1.0) else ""
    draw = "" if cell["draw"] is None else f", draw {cell['draw']}"
    return (
        cell["target"],
        f"{cell['condition']}{dose}{draw}",
        cell["source"] or "",
        cell["labelled"],
        rate,
        limits,
        cell["degenerate"],
        moved,
        cell["removal"] or "",
        cell["induction"] or "",
    )
