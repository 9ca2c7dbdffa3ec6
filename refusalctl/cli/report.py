"""`refusalctl report`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks, language_option, path_option
from refusalctl.disk import whole
from refusalctl.errors import BadInput
from refusalctl.file_errors import explained
from refusalctl.records.printed import PrintedReport
from refusalctl.setting_words import meant

if TYPE_CHECKING:
    from refusalctl.results import Report

OutOption = Annotated[Path | None, path_option("--out", "Copy the report's files to this folder.")]
FORMATS = ("html", "md", "csv", "latex", "json", "png", "svg", "pdf")
PRINTED = ("md", "latex", "json", "csv")


@asks(dry_run=False, file=False)
def report(
    session: Session,
    transfers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TRANSFER]...", help="Transfer artifacts, one per model or run; the newest by default."
        ),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Compare exactly two transfers cell by cell.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Show published figures of the same models beside your own.")
    ] = False,
    kind: Annotated[
        str | None,
        typer.Option("--format", help=f"{', '.join(FORMATS)}: print that table, or the paths of those files."),
    ] = None,
    reference: Annotated[
        str | None, language_option("--reference", "Source language that the page asks about first; en by default.")
    ] = None,
    geometry: Annotated[
        bool, typer.Option("--geometry/--no-geometry", help="Compare the languages' directions; needs no model.")
    ] = True,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Show answers too, folded away; some may be harmful.")
    ] = False,
    out_folder: OutOption = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Make one page with figures and tables from transfers. Answers are shown only with --with-text."""
    if kind is not None and kind not in FORMATS:
        raise typer.BadParameter(f"there is no format {kind!r}; {meant(kind, FORMATS)}choose {', '.join(FORMATS)}")
    study = session.study
    chosen = study.transfers(transfers or ())
    if compare:
        found = study.compare(chosen)
    else:
        found = study.report(chosen, geometry=geometry, reference=reference, published=published, with_text=with_text)
    for note in study.notes:
        out.warn(note)
    if session.name is not None:
        study.name(session.name, found)
    paths = found.in_format(kind or "html")
    if out_folder is not None:
        copy_files(found, out_folder, [p.name for p in paths] if kind else None)
        paths = [out_folder / p.name for p in paths]
    tell(found, paths, kind, json=session.json)
    if show and not found.open():
        out.warn(f"no browser could be started; open {found.page} yourself")


def tell(found: Report, paths: list[Path], kind: str | None, *, json: bool) -> None:
    """The id and where the page is; with a format, that table itself or the files' paths."""
    if json:
        out.as_json(PrintedReport(found.id, str(paths[0]), tuple(str(p) for p in paths)))
    elif kind is None:
        out.data(found.id)
        out.info(str(paths[0]))
    elif kind in PRINTED:
        first = next((p for p in paths if p.name.startswith(("rates", "pairs"))), paths[0])
        out.data(first.read_text(encoding="utf-8").rstrip("\n"))
    else:
        for path in paths:
            out.data(str(path))


def copy_files(report: Report, folder: Path, names: list[str] | None = None) -> Path:
    """Copy a report's files to a folder, each whole. Raises `BadInput` where that cannot be written."""
    with explained("write to", folder, hint="choose another folder for --out", kind=BadInput):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names if names is not None else [p.name for p in report.files]:
            with whole(folder / name) as draft:
                shutil.copyfile(report.path / name, draft)
    return folder
