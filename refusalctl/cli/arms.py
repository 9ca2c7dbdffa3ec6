"""`refusalctl arms`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import EVERYTHING, Session, asks
from refusalctl.cli.transfer import check_languages
from refusalctl.records.printed_checks import PrintedArm, PrintedArms

if TYPE_CHECKING:
    from refusalctl.records.comparison import ComparedCell
    from refusalctl.results import Comparison, Transfer

MATRIX = ("baseline", "transferred", "native")


@asks(*(name for name in EVERYTHING if name != "system"), named=False)
def arms(
    session: Session,
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="A system prompt: own (the template's), none, or NAME=TEXT. Repeat it."),
    ] = None,
) -> None:
    """Measure a transfer under several system prompts, compare each with the first, and make one report of all."""
    check_languages(session)
    study = session.study
    found = study.arms(arm or ())
    if session.dry_run:
        session.finish()
        return
    compared = study.between_arms(found)
    page = study.report(list({each.id: each for each in found.values()}.values()))
    for note in study.notes:
        out.warn(note)
    out.table_err(("arm", "target", "condition", "source", "n", "refusal", "removal"), list(_rows(found)))
    for name, each in compared.items():
        out.table_err(
            ("target", "condition", "source", "n", f"refusal, {next(iter(found))}", name, "difference", "p (Holm)"),
            [_compared(cell) for cell in each.cells if cell.first.condition in MATRIX],
        )
    out.success(f"{len(found)} arms; report: {page.page}")
    if session.json:
        out.as_json(_printed(found, compared, page.id))
        return
    for transfer in found.values():
        out.data(transfer.id)
    out.data(page.id)


def _rows(found: dict[str, Transfer]) -> Iterator[tuple[object, ...]]:
    for name, transfer in found.items():
        for cell in transfer.cells:
            if cell["condition"] in MATRIX:
                rate = "no label" if cell["refusal"] is None else f"{cell['refusal']:.0%}"
                source, removal = cell["source"] or "", cell["removal"] or ""
                yield (name, cell["target"], cell["condition"], source, cell["labelled"], rate, removal)


def _compared(cell: ComparedCell) -> tuple[object, ...]:
    rates = ("no label" if each.refusal is None else f"{each.refusal.value:.0%}" for each in (cell.first, cell.second))
    difference = p = "no prompt in both"
    if cell.paired is not None:
        low, high = cell.paired.interval95
        difference = f"{100 * cell.paired.difference:+.0f} points [{100 * low:+.0f}, {100 * high:+.0f}]"
        p = "" if cell.p_holm is None else f"{cell.p_holm:.2g}"
    return (cell.target, cell.first.condition, cell.first.source or "", cell.shared, *rates, difference, p)


def _printed(found: dict[str, Transfer], compared: dict[str, Comparison], report: str) -> PrintedArms:
    return PrintedArms(
        tuple(
            PrintedArm(
                name,
                _system(transfer),
                transfer.id,
                compared[name].id if name in compared else None,
            )
            for name, transfer in found.items()
        ),
        report,
    )


def _system(transfer: Transfer) -> str | None:
    """The system prompt as the transfer's recipe holds it."""
    found = transfer.record.model["system"]
    return None if found is None else str(found)
