"""`refusalctl calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import astuple

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks
from refusalctl.records.printed import PlannedTrial, PrintedCalibration

if TYPE_CHECKING:
    from refusalctl.steps.calibrate import CalibrationRun, TrialRun


@asks(file=False)
def calibrate(
    session: Session,
    designs: Annotated[
        list[str] | None, typer.Argument(help="Designs, such as shared; all by default.", show_default=False)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One architecture, one size.")] = False,
    cells: Annotated[bool, typer.Option("--cells", help="List every verdict beside the truth.")] = False,
) -> None:
    """Run the whole pipeline on models whose refusal mechanism is known, and compare its verdicts with the truth.

    Exit code 1 when a verdict is wrong.
    """
    todo = session.study.trials(designs, quick=quick)
    if session.dry_run:
        rows = [
            PlannedTrial(t.organism.design.name, t.organism.architecture, t.organism.seed, t.n, t.rank) for t in todo
        ]
        if session.json:
            out.as_json(rows)
        else:
            out.table_err(PlannedTrial.__struct_fields__, [astuple(row) for row in rows])
        return
    found, kept = session.study.calibrate(todo)
    if session.name is not None:
        session.study.name(session.name, kept)
    if session.json:
        out.as_json(PrintedCalibration(kept.id, found.record.trials))
    else:
        _show(found, cells)
        out.data(kept.id)
    if found.record.count()["wrong"]:
        raise typer.Exit(1)


def _show(found: CalibrationRun, cells: bool) -> None:
    if cells:
        out.table_err(
            ("design", "n", "source", "target", "question", "truth", "verdict", ""),
            [row for each in found.trials for row in _cell_rows(each)],
        )
    columns = ("design", "planted", "runs", "right", "rightly undecided", "missed", "wrong", "cosine", "seconds")
    out.table_err(columns, _design_rows(found))
    total = found.record.count()
    line = f"{len(found.trials)} runs: " + ", ".join(f"{n} {grade}" for grade, n in total.items())
    if total["wrong"]:
        out.warn(f"{line}: a verdict is wrong although the truth is known; do not trust this installation")
    else:
        out.success(line)


def _cell_rows(run: TrialRun) -> list[tuple[object, ...]]:
    marks = {"right": "", "rightly undecided": "held back", "missed": "MISSED", "wrong": "WRONG"}
    return [
        (run.record.design, run.record.n, v.source, v.target, v.question, v.truth, v.measured, marks[v.grade])
        for v in run.record.verdicts
    ]


def _design_rows(found: CalibrationRun) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name in dict.fromkeys(each.record.design for each in found.trials):
        mine = [each for each in found.trials if each.record.design == name]
        cosines = [c for each in mine for c in each.record.cosine.values()]
        counts = found.record.count(name)
        seconds = f"{sum(each.seconds for each in mine):.1f}"
        about = mine[0].trial.organism.design.about
        low = f">= {min(cosines):.3f}" if cosines else "none chosen"
        if name == "decoy":
            low += f", topic {max(t for each in mine for t in each.record.topic.values()):.2f}"
        rows.append(
            (
                name,
                about,
                len(mine),
                counts["right"],
                counts["rightly undecided"],
                counts["missed"],
                counts["wrong"],
                low,
                seconds,
            )
        )
    return rows
