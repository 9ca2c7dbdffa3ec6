"""The command line: registers commands, and turns known errors into one line and an exit code.

Exit codes: 0 done, 1 known error, 2 wrong usage, 130 interrupted, 143 terminated. Torch and transformers are
imported inside command bodies, so that `--help` stays instant.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer

from refusalctl.cli import artifacts, data, labels, out
from refusalctl.cli.ablate import ablate
from refusalctl.cli.calibrate import calibrate
from refusalctl.cli.collect import collect
from refusalctl.cli.doctor import doctor
from refusalctl.cli.extract import extract
from refusalctl.cli.geometry import geometry
from refusalctl.cli.import_ import import_
from refusalctl.cli.judge import judge
from refusalctl.cli.panel import panel
from refusalctl.cli.report import report
from refusalctl.cli.run import run
from refusalctl.cli.select import select
from refusalctl.cli.transfer import transfer
from refusalctl.cli.translate import translate
from refusalctl.errors import RefusalctlError
from refusalctl.version import __version__

app = typer.Typer(
    name="refusalctl",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Does the refusal direction of a chat model carry over from one language to another, and how sure are we?",
)

STEPS = "The seven steps"
TOOLS = "Around them"
for command in (collect, extract, select, ablate, transfer, judge, report):
    app.command(rich_help_panel=STEPS)(command)
app.command(rich_help_panel=TOOLS)(run)
app.command(rich_help_panel=TOOLS)(geometry)
app.command(rich_help_panel=TOOLS)(translate)
app.command(rich_help_panel=TOOLS)(panel)
app.command("import", rich_help_panel=TOOLS)(import_)
app.command(rich_help_panel=TOOLS)(calibrate)
app.command(rich_help_panel=TOOLS)(doctor)
app.add_typer(labels.app, name="labels", rich_help_panel=TOOLS)
app.add_typer(data.app, name="data", rich_help_panel=TOOLS)
app.add_typer(artifacts.app, name="artifacts", rich_help_panel=TOOLS)


def _version(wanted: bool) -> None:
    if wanted:
        out.data(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Does the refusal direction of a chat model carry over from one language to another, and how sure are we?"""


def _terminated(_signal: int, _frame: Any) -> None:
    raise SystemExit(143)  # unwinds, so that drafts are removed


def main() -> None:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except RefusalctlError as error:
        out.error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        out.warn("interrupted; finished work is kept, and the same command continues from there")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
