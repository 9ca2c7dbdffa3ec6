"""`refusalctl report`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out
from refusalctl.cli.options import JsonOption, StoreOption, open_store
from refusalctl.errors import BadInput, NotFound
from refusalctl.store.store import Artifact, Store

PAGE = "report.html"
FORMATS = ("html", "md", "csv", "latex", "json", "png", "svg", "pdf")
PRINTED = ("md", "latex", "json", "csv")


def report(
    transfers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TRANSFER]...", help="Transfer artifacts, one per model or run; the newest by default."
        ),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Compare exactly two transfers cell by cell.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Lay the published figures of the same models beside your own.")
    ] = False,
    kind: Annotated[
        str | None,
        typer.Option("--format", help=f"{', '.join(FORMATS)}: print that table, or the paths of those files."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Source language that the page asks about first; en by default.")
    ] = None,
    geometry: Annotated[
        bool, typer.Option("--geometry/--no-geometry", help="Compare the languages' directions; needs no model.")
    ] = True,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Show answers too, folded; some may be harmful.")
    ] = False,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Copy the report's files to this folder.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    name: o.NameOption = None,
    store: StoreOption = o.DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """One page, figures and tables from transfer matrices. Shows rates and ids; answers only with --with-text."""
    from refusalctl.report.report import files_of, make_report
    from refusalctl.steps.step import Workbench

    if kind is not None and kind not in FORMATS:
        raise typer.BadParameter(f"there is no format {kind!r}; choose {', '.join(FORMATS)}")
    kept = open_store(store)
    chosen = [kept.resolve(each, kind="transfer") for each in transfers] if transfers else [newest(kept)]
    bench = Workbench(kept, chosen[0].about["model"], progress=out.Bars(quiet=json))
    if compare:
        from refusalctl.report.comparison import compare_transfers

        found = compare_transfers(bench, chosen)
    else:
        found = make_report(
            bench, chosen, geometry=geometry, reference=reference, published=published, with_text=with_text
        )
    for note in bench.notes:
        out.warn(note)
    if name is not None:
        kept.name(name, found)
    paths = files_of(found, kind or "html")
    if out_folder is not None:
        wanted = [p.name for p in paths] if kind else list(found.manifest["files"])
        copy_files(found, out_folder, wanted)
        paths = [out_folder / p.name for p in paths]
    tell(found, paths, kind, json=json)
    if show and typer.launch((found.path / PAGE).resolve().as_uri()) != 0:
        out.warn(f"no browser could be started; open {found.path / PAGE} yourself")


def tell(found: Artifact, paths: list[Path], kind: str | None, *, json: bool) -> None:
    """The id and where the page is; with a format, that table itself or the files' paths."""
    if json:
        out.as_json({"id": found.id, "path": str(paths[0]), "files": [str(p) for p in paths]})
    elif kind is None:
        out.data(found.id)
        out.info(str(paths[0]))
    elif kind in PRINTED:
        first = next((p for p in paths if p.name.startswith(("rates", "pairs"))), paths[0])
        out.data(first.read_text(encoding="utf-8").rstrip("\n"))
    else:
        for path in paths:
            out.data(str(path))


def newest(store: Store) -> Artifact:
    """The transfer that was finished last. Raises `NotFound` when there is none."""
    found = store.all("transfer")
    if not found:
        raise NotFound(
            f"there is no transfer to report on in {store.root}",
            hint="compute one with `refusalctl transfer --sources en --targets en,be`",
        )
    return found[-1]


def copy_files(artifact: Artifact, folder: Path, names: list[str] | None = None) -> Path:
    """Copy an artifact's payload files to a folder. Raises `BadInput` where that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names if names is not None else artifact.manifest["files"]:
            shutil.copyfile(artifact.path / name, folder / name)
    except OSError as error:
        raise BadInput(
            f"cannot write to {folder} ({error.strerror})", hint="choose another folder for --out"
        ) from error
    return folder
