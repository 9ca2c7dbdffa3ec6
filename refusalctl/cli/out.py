"""The only place that prints. Data goes to stdout; progress, plans, hints and errors go to stderr."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import msgspec
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from refusalctl.cli.process import KEPT, unicode_output
from refusalctl.consoles import SafeConsole
from refusalctl.errors import RefusalctlError
from refusalctl.file_errors import explained, printable
from refusalctl.json_types import Json
from refusalctl.progress import Messages, Progress
from refusalctl.progress import progress as reporting
from refusalctl.records.printed import PrintedError, PrintedPlan, PrintedSetting, PrintedStep
from refusalctl.redaction import redacted, redacted_value
from refusalctl.setting_values import written
from refusalctl.terminal import safe, safe_json

if TYPE_CHECKING:
    from refusalctl.resolve import Resolved
    from refusalctl.settings import Declared
    from refusalctl.steps.forecast import Forecast, Work
    from refusalctl.steps.step import Planned

PIPE = 200  # columns of a table in a pipe
ENDLESS = 100_000  # columns of a tree in a pipe, where a line ends where it ends
LONG = 500  # rows; rich lays out about a thousand in a second


class Pipe(SafeConsole):
    """A console that leaves a broken pipe to the end of the command, which knows the exit code."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


err = Pipe(stderr=True)


def data(text: str) -> None:
    """One line of result, as it is, but for what is no text: see `terminal`."""
    with explained("write to", "standard output"):
        sys.stdout.write(safe(text) + "\n")


def _console(width: int) -> Pipe:
    """Standard output for rich; a pipe has no colours, and this many columns."""
    out = Pipe(file=sys.stdout)
    return out if out.is_terminal else Pipe(file=sys.stdout, width=width, no_color=True)


def as_json(value: Any) -> None:
    """One JSON document on stdout. NaN is refused: a missing measurement is null or absent, never a number."""
    escaped = not unicode_output()  # an escape of the stream's own would be no JSON
    data(safe_json(json.dumps(value, indent=2, ensure_ascii=escaped, allow_nan=False, default=_plain)))


def _plain(value: object) -> object:
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else str(value)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table for people on stdout; a pipe gets it without colour and as wide as it needs, and so do long ones."""
    if len(rows) > LONG:
        data("\n".join(_aligned([columns, *rows], {columns.index(c) for c in right})))
        return
    grid = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(printable(str(cell))) for cell in row))
    with explained("write to", "standard output"):
        _console(PIPE).print(grid)


def _aligned(rows: Sequence[Sequence[object]], right: set[int]) -> Iterator[str]:
    """Columns as wide as their widest cell, in terminal cells."""
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    filled = []
    for i, column in enumerate(zip(*texts)):
        lengths = [len(text) if text.isascii() else cell_len(text) for text in column]
        widest = max(lengths)
        gaps = (" " * (widest - length) for length in lengths)
        filled.append([g + t if i in right else t + g for t, g in zip(column, gaps)])
    return ("  ".join(row).rstrip() for row in zip(*filled))


def table_err(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), asked: bool = False
) -> None:
    """A summary for the eye on stderr, beside the data on stdout; a log gets it as wide as it needs. `asked`: it is
    what was asked for, or tells of failures, and so is shown in any case."""
    if _quiet and not asked:
        return
    where = err if err.is_terminal else Pipe(file=sys.stderr, width=PIPE, no_color=True)
    grid = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(printable(str(cell))) for cell in row))
    where.print(grid)


def show(renderable: Any) -> None:
    """A rich renderable (a tree, say) on stdout. A pipe gets its lines whole."""
    with explained("write to", "standard output"):
        _console(ENDLESS).print(renderable, soft_wrap=True)


def hush(wanted: bool) -> None:
    """Whether only results, notes and errors are told: no progress, tables and summaries on stderr."""
    global _quiet
    _quiet = wanted


_quiet = False


def info(text: str) -> None:
    if _quiet:
        return
    err.print(escape(redacted(text)), style="dim", soft_wrap=True)


def success(text: str) -> None:
    if _quiet:
        return
    err.print(f"[green]✓[/green] {escape(text)}", soft_wrap=True)


def warn(text: str) -> None:
    err.print(f"[yellow]note:[/yellow] {escape(redacted(text))}", soft_wrap=True)


def trace(text: str) -> None:
    """The traceback of a bug."""
    err.print(escape(redacted(text.rstrip())), style="dim", soft_wrap=True)


def tell_causes(wanted: bool) -> None:
    """Whether errors are shown with what lies behind them."""
    global _causes
    _causes = wanted


_causes = False


def error(problem: RefusalctlError, *, json: bool = False) -> int:
    """Tell a known failure; with `json` as one JSON line. The exit code."""
    if _causes:
        trace("".join(traceback.format_exception(problem)))
    if json:
        _json_error(PrintedError(type(problem).__name__, problem.message, problem.hint, 1))
    else:
        err.print(f"[red]error:[/red] {escape(printable(redacted(str(problem))))}", soft_wrap=True)
    return 1


def usage(problem: Any, *, json: bool) -> int:
    """Tell a wrong call, as Typer does. The exit code."""
    code = int(problem.exit_code)
    if json:
        message = problem.format_message() or "a command is missing"
        _json_error(PrintedError("Usage", message, "see --help", code))
        return code
    from typer.rich_utils import rich_format_error

    for name in ("message", "param_hint", "option_name", "cmd_name"):  # Typer prints on a console of its own
        if isinstance(given := getattr(problem, name, None), str):
            setattr(problem, name, safe(redacted(given)))
    rich_format_error(problem)
    return code


def stopped(how: str, code: int, *, json: bool) -> int:
    """Tell that a signal ended the command. The exit code."""
    if json:
        _json_error(PrintedError(how.capitalize(), how, KEPT, code))
    else:
        warn(f"{how}; {KEPT}")
    return code


def _json_error(told: PrintedError) -> None:
    """One line, without colour or wrapping."""
    sys.stderr.write(json.dumps(redacted_value(_plain(told))) + "\n")


def can_ask() -> bool:
    """Whether somebody sits at a terminal and can answer."""
    return sys.stdin is not None and sys.stdin.isatty() and err.is_terminal


def ask(question: str, default: str) -> str:
    """A question on stderr, beside what is being done; Enter takes the default."""
    err.print(f"{escape(question)} [dim]{escape(f'[{default}]')}[/dim]: ", end="", soft_wrap=True)
    answer = sys.stdin.readline()
    if not answer:
        raise EOFError
    return answer.strip() or default


def progress(*, quiet: bool = False) -> Progress:
    """Bars in a terminal, a line per task elsewhere; where JSON is asked for only what must be told."""
    return Messages(err) if quiet or _quiet else reporting("auto", err)


def explain(asked: Resolved, settings: Sequence[Declared], *, json: bool) -> None:
    """Every setting of a command: its value, and whether a flag, a file, the environment or the default gave it."""
    shown = asked.settings.by_name() | asked.machine.to_json()
    rows = [PrintedSetting(s.name, written(shown[s.name]), asked.origins[s.name]) for s in settings]
    if json:
        as_json(redacted_value([_plain(row) for row in rows]))
        return
    table("", ("setting", "value", "from"), [(r.setting, redacted(_value(r.value)), r.origin) for r in rows])


def _value(value: object) -> str:
    if value is None or value == ():
        return ""
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def plan(lines: Sequence[Planned], cost: Forecast | None, *, json: bool) -> None:
    """What a run would do: on stdout as JSON, else as a table on stderr."""
    if json:
        rows = tuple(PrintedStep(p.step, p.about, p.done, p.id if p.done else None) for p in lines)
        as_json(PrintedPlan(rows, msgspec.UNSET if cost is None else cost.as_json()))
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("step", "what", "state"):
        grid.add_column(column, overflow="fold")
    for p in lines:
        grid.add_row(p.step, escape(about_line(p.about)), "[green]done[/green]" if p.done else "to compute")
    err.print(grid)
    missing = sum(not p.done for p in lines)
    err.print(f"{len(lines)} steps, {missing} to compute")
    if cost is not None and cost.rows:
        _cost(cost)


def _cost(cost: Forecast) -> None:
    heads = ("step", "lang", "forward", "scored", "added", "answers", "tokens at most", "time at most")

    def line(step: str, lang: str, work: Work, seconds: float | None) -> tuple[str, ...]:
        counts = (f"{count:,}" if count else "" for count in astuple(work))
        return (step, lang, *counts, "" if seconds is None else duration(seconds))

    err.print()
    table_err(
        heads,
        [*(line(*row) for row in cost.rows), line("all", "", cost.total, cost.seconds)],
        right=heads[2:],
        asked=True,
    )
    err.print(f"{cost.cells} sets of answers to write, {cost.labels:,} labels to make; the time is without judges")
    if (asked := cost.controls) is not None:
        err.print(
            f"controls: {asked.draws} draws beside each of {asked.cells} cells, smallest p {asked.smallest_p:.3g}; "
            f"{asked.passes // asked.cells:,} prompt passes per cell, {asked.passes:,} in all, at most {asked.most:,} "
            "if all draws are matched in part"
        )
    if cost.seconds is None:
        err.print("--probe runs a few prompts and adds the time")


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`: as exact as a forecast can be."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def about_line(about: Mapping[str, Json]) -> str:
    """`en harmful test n=48 smollm2-refuser`: what an artifact is about, short."""
    first = [str(about[k]) for k in ("lang", "kind", "split", "task", "intervention", "rule", "judge") if about.get(k)]
    if about.get("direction_lang"):
        first.append(f"from {about['direction_lang']}")
    if about.get("sources"):
        first.append(f"{about['sources']} > {about['targets']}")
    if about.get("n") is not None:
        first.append(f"n={about['n']}")
    return " ".join([*first, *(str(about[k]) for k in ("model", "data") if about.get(k))])
