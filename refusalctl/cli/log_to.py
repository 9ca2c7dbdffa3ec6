"""`refusalctl artifacts log-to`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import DEFAULT_STORE, JsonOption, StoreOption
from refusalctl.records.printed_exports import LoggedFigures
from refusalctl.store.references import resolve_all
from refusalctl.store.store import Store
from refusalctl.store.verify import require_store


def log_to(
    tracker: Annotated[str, typer.Argument(help="mlflow or wandb.")],
    refs: Annotated[
        list[str], typer.Argument(metavar="REF...", help="Labels, selections or transfers, as for `show`.")
    ],
    to: Annotated[str, typer.Option(help="A folder, or an MLflow address such as http://localhost:5000.")] = "tracking",
    project: Annotated[str, typer.Option(help="MLflow experiment or wandb project.")] = "refusalctl",
    online: Annotated[bool, typer.Option("--online", help="wandb: send it to the server, not only to a file.")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Log the measured numbers of artifacts to MLflow or Weights & Biases, one run per artifact. No texts are sent.

    Into a folder by default, and nothing leaves this machine: an SQLite file for MLflow, offline runs for wandb.
    """
    from refusalctl.interop.tracking import TRACKERS, log
    from refusalctl.steps.interop.figures import figures_of

    chosen = next((each for each in TRACKERS if each == tracker), None)
    if chosen is None:
        raise typer.BadParameter(f"expected {' or '.join(TRACKERS)}, found {tracker!r}")
    opened = Store(store, out.warn)
    require_store(opened)
    found = [figures_of(artifact) for ref in refs for artifact in resolve_all(opened, ref)]
    rows = []
    for each in found:
        run = log(chosen, each, to, project, online=online)
        rows.append(LoggedFigures(tracker, each.tags["refusalctl.artifact"], run, len(each.metrics)))
        if not json:
            out.success(f"{each.name}: {len(each.metrics)} numbers as run {run} in {Path(to).name}")
    if json:
        out.as_json(rows)
