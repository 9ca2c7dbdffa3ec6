"""`refusalctl run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.goals import work_through
from refusalctl.cli.report import OutOption, copy_files
from refusalctl.cli.session import EVERYTHING, Session, asks
from refusalctl.cli.transfer import check_languages, show_matrix
from refusalctl.disk import make_folder


@asks(*EVERYTHING, probe=True, goals=True)
def run(
    session: Session,
    file: Annotated[Path | None, typer.Argument(help="Experiment file (TOML); see examples/.")] = None,  # noqa: ARG001
    out_folder: OutOption = None,
) -> None:
    """Do everything, from prompts to the report. Finished steps are not computed again; flags win over the file."""
    check_languages(session)
    if out_folder is not None and session.goals.is_part:
        raise typer.BadParameter("--out takes a report, and none is made with --only and --only-langs")
    if out_folder is not None and not session.dry_run:
        make_folder(out_folder, "the folder of --out")  # now, not after hours of work
    with work_through(session, "run") as whole:
        if not whole:
            return
        matrix = session.study.transfer()
        if matrix.planned:
            session.finish(matrix, forecast=True)
            return
        page = session.study.report([matrix])
    plan = session.study.plan
    show_matrix(matrix)
    out.success(f"{len(plan)} steps, {sum(not p.done for p in plan)} computed now; report: {page.page}")
    if out_folder is not None:
        copy_files(page, out_folder)
    session.finish(page)
