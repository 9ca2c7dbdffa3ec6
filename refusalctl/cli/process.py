"""What a command needs of the process that it runs in: streams that cannot fail it, signals, quiet libraries.

A program whose standard streams are closed, full, gone or not UTF-8 should do what `ls` and `git` do. Nothing here
loads more than Python brings.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from refusalctl.redaction import redacted
from refusalctl.stopping import signalled
from refusalctl.terminal import safe

INTERRUPTED, TERMINATED, BROKEN_PIPE = 128 + signal.SIGINT, 128 + signal.SIGTERM, 141
KEPT = "finished work is kept, and the same command continues from there"

# Bars and advice that other libraries print on stderr. What a user has set stays.
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
_DOWNLOADS = ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")  # the only sign of life of a long download


class Stopped(SystemExit):
    """The operating system asked the command to end. Unwinds, so that drafts are removed."""


def _bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A bug keeps its traceback; its message may hold anything that was read, which must not reach a terminal raw."""
    sys.stderr.write(safe(redacted("".join(traceback.format_exception(kind, error, trace)))))


class _Unfailing(io.FileIO):
    """Messages must not end the work that they tell of: what a full disk or a vanished terminal refuses is dropped."""

    def write(self, text: Any, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError:
            return len(text)


class _ClosedOutput(io.TextIOBase):
    """Standard output that was closed before the command began."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, f"{len(text)} characters could not be written")

    def writable(self) -> bool:
        return True


def prepare() -> None:
    """Make the standard streams safe, ask other libraries to be quiet, and listen to signals."""
    _open_streams()
    sys.excepthook = _bug
    _speak_any_script()
    looked_at = sys.stderr.isatty() and "--json" not in sys.argv
    for variable, value in _QUIET.items():
        if not (looked_at and variable in _DOWNLOADS):
            os.environ.setdefault(variable, value)
    if not os.environ.get("PYTHONWARNINGS") and not sys.warnoptions:
        warnings.simplefilter("ignore")  # advice to programmers, of libraries that users did not choose
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a job that a script started in the background
        signal.signal(signal.SIGINT, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    """Raise what ends the command; where a batch is in hand that will be written down, only when it is."""
    if signalled(KeyboardInterrupt() if number == signal.SIGINT else Stopped(128 + number)):
        told = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}.get(signal.Signals(number), "hung up")
        with suppress(OSError):
            line = f"note: {told}; the batch in hand is finished and kept, once more ends at once\n"
            os.write(2, line.encode())  # no stream of Python's: it may be in the middle of a line


def _open_streams() -> None:
    """A closed stream's number would be given to the next file that is opened, and messages would land in it."""
    closed = [number for number in (0, 1, 2) if not _is_open(number)]
    for number in closed:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
    if sys.stdout is None or (1 in closed and sys.stdout is sys.__stdout__):
        sys.stdout = _ClosedOutput()
    if sys.stderr is None or sys.stderr is sys.__stderr__:  # no test's or notebook's own
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        raw: Any = _Unfailing(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True, write_through=True)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _speak_any_script() -> None:
    """A character that a terminal's encoding lacks is written as an escape; it must not end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def unicode_output() -> bool:
    """Whether standard output can hold every character."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def drop_output() -> None:
    """Nobody reads standard output any more: what still waits to be written would fail again when Python ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            try:
                os.dup2(null, stream.fileno())
            except (OSError, ValueError):  # no real file
                continue
    os.close(null)


def deaf() -> None:
    """From here on nothing is left to keep: a signal ends the process at once, without a word."""
    if signal.getsignal(signal.SIGINT) in (_stop, signal.default_int_handler):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
