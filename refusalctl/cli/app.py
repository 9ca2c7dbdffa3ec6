"""The command line: registers commands, and turns known errors into one line and an exit code.

Exit codes: 0 done, 1 known error, 2 wrong usage, 3 and 4 of `gate` alone, 130 interrupted, 141 nobody reads the
output, 143 terminated. Torch and transformers are imported inside command bodies, so that `--help` stays instant.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from refusalctl.cli import artifacts, data, examples, labels, out, process
from refusalctl.cli.ablate import ablate
from refusalctl.cli.arms import arms
from refusalctl.cli.calibrate import calibrate
from refusalctl.cli.collect import collect
from refusalctl.cli.cost import cost
from refusalctl.cli.demo import demo
from refusalctl.cli.doctor import doctor
from refusalctl.cli.export import export
from refusalctl.cli.extract import extract
from refusalctl.cli.gate import gate
from refusalctl.cli.geometry import geometry
from refusalctl.cli.import_ import import_
from refusalctl.cli.init import init
from refusalctl.cli.judge import judge
from refusalctl.cli.log_to import log_to
from refusalctl.cli.panel import panel
from refusalctl.cli.repair import repair
from refusalctl.cli.report import report
from refusalctl.cli.run import run
from refusalctl.cli.select import select
from refusalctl.cli.share import import_archive, pull, push
from refusalctl.cli.transfer import transfer
from refusalctl.cli.translate import translate
from refusalctl.errors import RefusalctlError
from refusalctl.file_errors import explain, explained
from refusalctl.version import __version__

USAGE: type[Exception] = typer.BadParameter.__mro__[2]  # what Typer raises for every wrong call


class Carried(Exception):
    """An error that Typer would turn into something else on its way out."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Commands(TyperGroup):
    """All commands. Typer takes the end of a file for a user who gave up, and a broken pipe for a known error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (EOFError, BrokenPipeError) as error:
            raise Carried(error) from error


app = typer.Typer(
    name="refusalctl",
    cls=Commands,
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
app.command(rich_help_panel=TOOLS)(demo)
app.command(rich_help_panel=TOOLS)(init)
app.command(rich_help_panel=TOOLS)(run)
app.command(rich_help_panel=TOOLS)(arms)
app.command(rich_help_panel=TOOLS)(gate)
app.command(rich_help_panel=TOOLS)(geometry)
app.command(rich_help_panel=TOOLS)(cost)
app.command(rich_help_panel=TOOLS)(translate)
app.command(rich_help_panel=TOOLS)(panel)
app.command("import", rich_help_panel=TOOLS)(import_)
app.command(rich_help_panel=TOOLS)(calibrate)
app.command(rich_help_panel=TOOLS)(doctor)
artifacts.app.command("repair")(repair)
for command in (push, pull):
    artifacts.app.command()(command)
artifacts.app.command("export")(export)
artifacts.app.command("import")(import_archive)
artifacts.app.command("log-to")(log_to)
app.add_typer(labels.app, name="labels", rich_help_panel=TOOLS)
app.add_typer(data.app, name="data", rich_help_panel=TOOLS)
app.add_typer(artifacts.app, name="artifacts", rich_help_panel=TOOLS)
examples.attach(app)


def _version(wanted: bool) -> None:
    if wanted:
        out.data(__version__)
        raise typer.Exit


def _verbose(wanted: bool) -> None:
    out.tell_causes(wanted)


def _quiet(wanted: bool) -> None:
    out.hush(wanted)


@app.callback()
def options(
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            envvar="REFUSALCTL_VERBOSE",
            callback=_verbose,
            help="Show what lies behind an error; stands before the command.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            envvar="REFUSALCTL_QUIET",
            callback=_quiet,
            help="Tell only results, notes and errors: no progress and no summaries; stands before the command.",
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Does the refusal direction of a chat model carry over from one language to another, and how sure are we?"""


def main() -> None:
    """Entry point of the console script."""
    process.prepare()
    json = "--json" in sys.argv[1:]
    try:
        code = _call(json)
        with explained("write to", "standard output"):
            sys.stdout.flush()
    except BrokenPipeError:
        code = process.BROKEN_PIPE
    except RefusalctlError as error:  # of the last words on standard output
        code = out.error(error, json=json)
    process.drop_output()
    process.deaf()
    sys.exit(code)


def _call(json: bool) -> int:
    """Run the command; what went wrong is told, and becomes the exit code."""
    try:
        code = get_command(app).main(prog_name="refusalctl", standalone_mode=False)
    except RefusalctlError as error:
        return _told(error, json)
    except USAGE as error:
        return out.usage(error, json=json)
    except Carried as carried:
        return _foreign(carried.error, json)
    except (KeyboardInterrupt, typer.Abort):
        code = process.INTERRUPTED
    except process.Stopped as stopped:
        return out.stopped("terminated", int(stopped.code or 0), json=json)
    except Exception as error:  # a bug keeps its traceback; what a disk or a file did is told in one line
        return _foreign(error, json)
    if code == process.INTERRUPTED:  # Typer's way to tell of Ctrl-C
        return out.stopped("interrupted", code, json=json)
    return int(code or 0)


def _told(error: RefusalctlError, json: bool) -> int:
    """Tell it once: if standard output was at fault, what it still holds would fail and be told again at the end."""
    code = out.error(error, json=json)
    process.drop_output()
    return code


def _foreign(error: Exception, json: bool) -> int:
    """Raises the error again unless it is the machine's or a file's fault."""
    told = None if isinstance(error, BrokenPipeError) else explain(error)
    if told is None:
        raise error
    told.__cause__ = error
    return _told(told, json)
