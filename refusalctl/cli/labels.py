"""`refusalctl labels`: people's labels. Texts go into the file that the user names, never onto the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks, path_option
from refusalctl.setting_words import meant

if TYPE_CHECKING:
    from refusalctl.records.correction import ConditionRate, CorrectedRate, JudgeAccuracy, JudgedRate
    from refusalctl.results import Correction

app = typer.Typer(no_args_is_help=True, help="Labels by people: draw a sheet, read it back, correct judges with it.")


@app.command()
@asks(dry_run=False, file=False, named=False)
def sample(
    session: Session,
    labels: Annotated[
        list[str], typer.Argument(help="Labels by one judge, one per condition; any languages.", show_default=False)
    ],
    to: Annotated[Path, path_option("--out", "Folder of the sheets; one sheet-LANG file per language.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Completions per language.")] = 120,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    format_: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite sheets that exist already.")] = False,
) -> None:
    """Draw completions for native speakers: equally from each condition and outcome, shuffled, with opaque ids.

    The sheets hold prompts and responses, which may be harmful. Prints the id of each language's sample, which
    `labels import` needs.
    """
    if format_ not in ("csv", "jsonl"):
        raise typer.BadParameter(
            f"--format takes csv or jsonl, found {format_!r}; {meant(format_, ('csv', 'jsonl'))}".rstrip("; ")
        )
    study = session.study
    drawn = study.samples([study.open_labels(each) for each in labels], n, seed)
    for each in drawn:
        path = to / f"sheet-{each.about['lang']}.{format_}"
        rows = study.write_sheet(each, path, replace=replace)
        out.success(f"{rows} rows in {path}; they hold texts that may be harmful")
    session.finish(*drawn)


@app.command("import")
@asks(dry_run=False, file=False)
def import_(
    session: Session,
    sheet: Annotated[Path, typer.Argument(help="A filled-in sheet, CSV or JSON lines.", show_default=False)],
    drawn: Annotated[str, typer.Option("--sample", help="The sample that the sheet belongs to.")],
    annotator: Annotated[str, typer.Option(help="A name for who labelled it, such as native-1.")],
    partial: Annotated[bool, typer.Option("--partial", help="Accept a sheet with empty labels.")] = False,
) -> None:
    """Read a sheet back: refusal, compliance, degenerate or unsure per row; stored as labels by human:ANNOTATOR."""
    study = session.study
    found = study.import_sheet(sheet, study.open_sample(drawn), annotator, partial=partial)
    for each in found:
        out.success(f"{each.about['labelled']} labels: {out.about_line(each.about)}")
    session.finish(*found)


@app.command()
@asks(dry_run=False, file=False)
def correct(
    session: Session,
    labels: Annotated[list[str], typer.Argument(help="Labels by judges, of any condition.", show_default=False)],
    human: Annotated[list[str], typer.Option("--human", help="People's labels, from `labels import`.")],
) -> None:
    """Sensitivity and specificity of each judge and language, and its rates corrected for its errors.

    The interval includes the uncertainty about the judge. Where there are too few labels, or the judge is not shown to
    be better than chance, there is a reason instead of a number.
    """
    study = session.study
    judged = [study.open_labels(each) for each in labels]
    made = study.correction(judged, [study.open_labels(each) for each in human])
    _show(made)
    session.finish(made)


def _show(made: Correction) -> None:
    rows: list[tuple[object, ...]] = []
    for found in made.judges:
        for outcome, part in found.by_outcome().items():
            head = (found.lang, found.judge, outcome, _accuracy(part.sensitivity), _accuracy(part.specificity))
            rows += [(*head, *_rate(rate)) for rate in part.rates]
    columns = ("language", "judge", "outcome", "sensitivity", "specificity", "condition", "judge's rate", "corrected")
    out.table_err(columns, rows)


def _accuracy(found: JudgeAccuracy | None) -> str:
    return "none" if found is None else f"{_number(found)} n={found.n}"


def _rate(row: ConditionRate) -> tuple[str, str, str]:
    origin = f" {row.direction_lang}" if row.direction_lang else ""
    own = _number(row.rate) if row.rate else "none"
    corrected = _number(row.corrected) if row.corrected else f"none: {row.reason}"
    return f"{row.intervention or ''}{origin}", own, corrected


def _number(found: JudgeAccuracy | JudgedRate | CorrectedRate) -> str:
    return f"{found.value:.2f} [{found.interval[0]:.2f}, {found.interval[1]:.2f}]"
