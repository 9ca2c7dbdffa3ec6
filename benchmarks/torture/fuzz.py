"""Hostile files, read as a person would read them: stores, manifests, HDF5, safetensors, JSON lines, TOML, published
runs, prompts, models. Counted is everything but a plain refusal: crashes, hangs, memory, and what reaches the output.

    python -m benchmarks.torture fuzz --n 20000
    python -m benchmarks.torture.fuzz stored --case 17           # one case again, with its traceback
    python -m benchmarks.torture.fuzz json --guided 100000       # coverage-guided, needs atheris
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, NamedTuple

from benchmarks import command
from benchmarks.torture.rows import Row, Work, none

N, SHORT, FULL = "hostile files", 600, 20_000
CPU, WALL, IDLE = 5.0, 30.0, 0.05  # seconds: of work of a case; between two looks, and of work between them
MEMORY = 1 << 30  # bytes that a case may take beyond what the libraries took
AT_ONCE = 250  # cases of one child: what one case leaves behind shall not fill the memory of a thousand
_OUTCOMES = ("kept", "crash", "hang", "memory", "escape")


class Finding(NamedTuple):
    """What one case did beyond what was promised, and how to see it again."""

    target: str
    case: int
    outcome: str
    words: str

    def __str__(self) -> str:
        return f"{self.outcome}: {self.words} (python -m benchmarks.torture.fuzz {self.target} --case {self.case})"


class Hang(BaseException):
    """A case took too long; no handler of errors may take it for one."""


def run(work: Work) -> list[Row]:
    from benchmarks.torture.targets import TARGETS, prepare

    prepare()
    each = max(1, work.n // len(TARGETS))
    found: list[Finding] = []
    counts: Counter[str] = Counter()
    for target in TARGETS:
        before = len(found)
        for start in range(0, each, AT_ONCE):
            found += _series(target, work.seed, range(start, min(each, start + AT_ONCE)), work.folder)
        counts[target] = each
        print(f"{target}: {each} files, {len(found) - before} findings", file=sys.stderr, flush=True)
    for finding in _distinct(found):
        print(finding, file=sys.stderr)
    by_outcome = Counter(finding.outcome for finding in found)
    rows = [Row("hostile files read", counts.total(), at_least=1)]
    rows += [Row(f"of them {target}", n) for target, n in counts.items()]
    return [
        *rows,
        none("crashes (an error that is no refusal, or a signal)", by_outcome["crash"]),
        none(f"hangs ({CPU:g} s at work, or waits without an end)", by_outcome["hang"]),
        none(f"memory beyond {MEMORY >> 20} MiB", by_outcome["memory"]),
        none("escapes, scripts or code that got through", by_outcome["escape"]),
    ]


def _distinct(found: Sequence[Finding]) -> list[Finding]:
    """The first of every kind, the most frequent first."""
    counts = Counter((f.target, f.outcome, f.words) for f in found)
    first = {(f.target, f.outcome, f.words): f for f in reversed(found)}
    return [first[key] for key, _n in counts.most_common()]


def _series(target: str, seed: int, cases: range, folder: Path) -> list[Finding]:
    """Cases in a child, and what is left of them in another one where a case killed it."""
    found: list[Finding] = []
    at = cases.start
    while at < cases.stop:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons, about forks beside threads
            pid = os.fork()
        if pid == 0:  # never returns
            os.close(reader)
            _child(target, seed, range(at, cases.stop), folder, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            while (finding := _told(told, target)) is not None:
                at = finding.case + 1
                if finding.outcome != "kept":
                    found.append(finding)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if at < cases.stop:  # it did not come to the end: the case after the last one that was told
            killed = code == -signal.SIGXCPU
            words = "did not come back from a library" if killed else f"the process ended with {code}"
            found.append(Finding(target, at, "hang" if killed else "crash", words))
            at += 1
    return found


def _told(told: IO[bytes], target: str) -> Finding | None:
    head = told.read(12)
    if len(head) < 12:
        return None
    case, outcome, size = struct.unpack("<iii", head)
    return Finding(target, case, _OUTCOMES[outcome], told.read(size).decode())


def _child(target: str, seed: int, cases: range, folder: Path, writer: int) -> None:
    code = 1
    try:
        faulthandler.disable()  # what a signal ended the parent tells; a report of the test runner's would be noise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        limited()
        for case in cases:
            outcome, words = _outcome(target, seed, case, folder)
            text = words.encode()[:500]
            os.write(writer, struct.pack("<iii", case, _OUTCOMES.index(outcome), len(text)) + text)
        code = 0
    finally:
        os._exit(code)


def limited() -> None:
    """No more memory than is there now and the promised one, and no core files."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _outcome(target: str, seed: int, case: int, folder: Path) -> tuple[str, str]:
    from benchmarks.torture.targets import Escaped

    try:
        with limits():
            one(target, seed, case, folder)
    except Hang:
        return "hang", _place(sys.exc_info()[1])
    except MemoryError as error:
        return "memory", _place(error)
    except Escaped as error:
        return "escape", str(error)
    except BaseException as error:
        memory = "can't allocate memory" in str(error) or "bad alloc" in str(error)
        return "memory" if memory else "crash", f"{type(error).__name__} {_place(error)}"
    return "kept", ""


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Raise `Hang` after the promised time of work, or where nothing is worked at: other programs may slow a machine
    down, and that is no hang. What Python cannot interrupt is ended by the system."""

    worked = time.process_time()

    def late(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    def waits(_number: int, _frame: FrameType | None) -> None:
        nonlocal worked
        before, worked = worked, time.process_time()
        if worked - before < IDLE:
            raise Hang
        signal.setitimer(signal.ITIMER_REAL, WALL)

    soft, hard = (math.ceil(worked + 2 * CPU), resource.getrlimit(resource.RLIMIT_CPU)[1])
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))  # ends what never comes back from a library
    signal.signal(signal.SIGPROF, late)
    signal.signal(signal.SIGALRM, waits)
    signal.setitimer(signal.ITIMER_PROF, CPU)
    signal.setitimer(signal.ITIMER_REAL, WALL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _place(error: BaseException | None) -> str:
    """Where in the package an error was raised: its last place there, and then in a library."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    ours = [f for f in frames if "refusalctl" in Path(f.filename).parts]
    named = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in (*ours[-1:], *frames[-1:])]
    return " ".join(dict.fromkeys(named))


def one(target: str, seed: int, case: int, folder: Path) -> None:
    """One case: make its files in a folder of its own, and read them."""
    from benchmarks.torture.targets import TARGETS

    random_ = random.Random(f"{seed}/{target}/{case}")
    room = Path(tempfile.mkdtemp(prefix=f"{target}-", dir=folder))
    before = Path.cwd()
    try:
        read = TARGETS[target](random_, room)
        os.chdir(room)
        read()
    finally:
        os.chdir(before)
        shutil.rmtree(room, ignore_errors=True)


def main(args: Sequence[str] | None = None) -> None:
    from benchmarks.torture import guided
    from benchmarks.torture.targets import TARGETS

    parser = command.parser(__doc__)
    parser.prog = "python -m benchmarks.torture.fuzz"
    parser.add_argument("target", choices=[*TARGETS, *guided.READERS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, default=0)
    parser.add_argument("--guided", type=int, metavar="RUNS", help="coverage-guided, by atheris")
    given = parser.parse_args(args)
    if given.guided:
        guided.run(given.target, given.seed, given.guided)
        return
    with tempfile.TemporaryDirectory() as folder, limits():
        limited()
        one(given.target, given.seed, given.case, Path(folder))
    print("kept")


if __name__ == "__main__":
    main()
