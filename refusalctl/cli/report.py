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


def report(
    transfer: Annotated[
        str | None, typer.Argument(metavar="[TRANSFER]", help="Transfer artifact; the newest by default.")
    ] = None,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Copy the report's files to this folder.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    store: StoreOption = o.DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """One page, figures and tables from a transfer matrix. Shows rates and ids, never a prompt or an answer."""
    from refusalctl.steps.report import report as report_step
    from refusalctl.steps.step import Workbench

    kept = open_store(store)
    chosen = kept.resolve(transfer, kind="transfer") if transfer is not None else newest(kept)
    bench = Workbench(kept, chosen.about["model"], progress=out.Bars(quiet=json))
    found = report_step(bench, chosen)
    for note in bench.notes:
        out.warn(note)
    page = found.path / PAGE
    if out_folder is not None:
        page = copy_files(found, out_folder) / PAGE
    if json:
        out.as_json({"id": found.id, "path": str(page)})
    else:
        out.data(found.id)
        out.info(str(page))
    if show and typer.launch(page.resolve().as_uri()) != 0:
        out.warn(f"no browser could be started; open {page} yourself")


def newest(store: Store) -> Artifact:
    """The transfer that was finished last. Raises `NotFound` when there is none."""
    found = store.all("transfer")
    if not found:
        raise NotFound(
            f"there is no transfer to report on in {store.root}",
            hint="compute one with `refusalctl transfer --sources en --targets en,be`",
        )
    return found[-1]


def copy_files(artifact: Artifact, folder: Path) -> Path:
    """Copy an artifact's payload files to a folder. Raises `BadInput` where that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in artifact.manifest["files"]:
            shutil.copyfile(artifact.path / name, folder / name)
    except OSError as error:
        raise BadInput(
            f"cannot write to {folder} ({error.strerror})", hint="choose another folder for --out"
        ) from error
    return folder
