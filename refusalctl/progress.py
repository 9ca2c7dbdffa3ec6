"""Where long-running work reports progress: bars in a terminal, widgets in a notebook, a line in a log, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from refusalctl.errors import BadInput
from refusalctl.redaction import redacted
from refusalctl.stopping import batch_done, finishing_batches

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

How = Literal["auto", "bars", "lines", "silent"]


class Advance(Protocol):
    def __call__(self, n: int = 1) -> None: ...


class Progress(Protocol):
    """What steps report to."""

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]: ...


def say(shown: Progress, text: str) -> None:
    """Tell what a person should know at once, where a progress display of somebody's own can; notes come at the end."""
    told = getattr(shown, "say", None)
    if told is not None:
        told(text)


@contextmanager
def batches(shown: Progress, what: str, total: int) -> Iterator[Advance]:
    """A task whose batches are written down one by one, each before `advance` is called: a signal waits for that."""
    with shown.task(what, total) as advance, finishing_batches():

        def done(n: int = 1) -> None:
            advance(n)
            batch_done()

        yield done


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Nobody listens."""

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:  # noqa: ARG002
        yield self.advance

    @staticmethod
    def advance(n: int = 1) -> None:
        """Nothing to show."""


class Messages(Silent):
    """No progress, but what must be told, such as whom one waits for."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        _print(self.console, text)


class Lines(Messages):
    """One line when a task begins, for logs."""

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:
        from rich.markup import escape

        self.console.print(escape(f"{what} ({total})"), style="dim", soft_wrap=True)
        yield self.advance


class Bars(Messages):
    """One bar per task, gone when the task ends; several may be open at once. In a notebook rich draws them as a
    widget."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars: RichProgress | None = None

    @contextmanager
    def task(self, what: str, total: int) -> Iterator[Advance]:
        bars, outermost = self._bars, self._bars is None
        if bars is None:
            bars = self._bars = self._shown()
            bars.start()
        task = bars.add_task(what, total=total)
        try:
            yield lambda n=1: bars.advance(task, n)
        finally:
            bars.remove_task(task)
            if outermost or not bars.tasks:
                bars.stop()
                self._bars = None

    def _shown(self) -> RichProgress:
        from rich import progress as rich

        columns = (
            rich.TextColumn("{task.description:<34}", markup=False),
            rich.BarColumn(20),
            rich.MofNCompleteColumn(),
            rich.TimeElapsedColumn(),
            rich.TimeRemainingColumn(),
        )
        return rich.Progress(*columns, console=self.console, transient=True)


def _print(console: Console, text: str) -> None:
    from rich.markup import escape

    console.print(f"[yellow]note:[/yellow] {escape(redacted(text))}", soft_wrap=True)


def progress(how: How | Progress = "auto", console: Console | None = None) -> Progress:
    """The display that is asked for; `auto`: bars where a person looks (a terminal, a notebook), else nothing."""
    if not isinstance(how, str):
        return how
    if how not in get_args(How):
        raise BadInput(f"there is no progress {how!r}", hint=f"choose {', '.join(get_args(How))}")
    if how == "silent" or (how == "auto" and console is None and not _looked_at()):
        return Silent()
    from refusalctl.consoles import SafeConsole

    where = console or SafeConsole(stderr=True)
    if how == "lines":
        return Lines(where)
    if how == "auto" and not (where.is_terminal or where.is_jupyter):
        return Lines(where)
    return Bars(where)


def _looked_at() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules
