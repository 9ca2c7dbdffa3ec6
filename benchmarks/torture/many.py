"""Large stores: how long `ls`, `show`, `verify` and `gc` take, and what the store adds to each artifact.

Artifacts are small, as labels are: 200 bytes to 20 kB. The first hundred are written as ever; of the rest nothing is
waited for until it is on the disk, which is what most of the time goes into.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.torture.rows import Row, Work, none
from benchmarks.torture.stores import payload, put
from refusalctl.store.store import Store

N, SHORT, FULL = "artifacts", 2000, 10_000  # 100,000 with --n
SYNCED = 100


def run(work: Work) -> list[Row]:
    root = work.folder / "store"
    store = Store(root)
    synced = min(SYNCED, work.n // 2)
    first = _seconds(lambda: _filled(store, range(synced))) / synced
    waits, os.fsync = os.fsync, lambda _number: None  # type: ignore[assignment]
    try:
        rest = _seconds(lambda: _filled(store, range(synced, work.n))) / (work.n - synced)
    finally:
        os.fsync = waits
    some = store.ids("labels")[work.n // 2][1]
    rows = [
        Row("artifacts", work.n),
        Row("one commit, on the disk", 1000 * first, "ms"),
        Row("one commit, not waited for", 1000 * rest, "ms"),
        *_room(root, work.n),
    ]
    commands = {
        "ls, first time": ("ls",),
        "ls, again": ("ls",),
        "ls --json": ("ls", "--json"),
        "show of one": ("show", some),
        "verify": ("verify",),
        "verify of a lineage": ("verify", "--lineage", some),
        "gc, the plan": ("gc", "--keep-hours", "0"),
    }
    wrong = 0
    for name, args in commands.items():
        before = _worked()
        seconds, code = _command(root, *args)
        wrong += code != 0
        rows += [Row(name, seconds, "s"), Row(f"{name}, of it at work", _worked() - before, "s")]
    return [*rows, none("commands that failed", wrong)]


def _filled(store: Store, numbers: range) -> None:
    """Artifacts of which each tenth was made from the one before."""
    before = ""
    for number in numbers:
        inputs = {"prompts": before} if before and number % 10 else {}
        before = put(store, number, "labels", **inputs).id


def _room(root: Path, n: int) -> list[Row]:
    """What the store takes beyond payloads, per artifact."""
    files = [path for path in root.rglob("*") if path.is_file()]
    bytes_, blocks = sum(p.stat().st_size for p in files), sum(p.stat().st_blocks * 512 for p in files)
    payloads = sum(len(payload(number)) for number in range(n))
    folders = sum(path.is_dir() for path in root.rglob("*"))
    return [
        Row("bytes of an artifact's payload", payloads / n, "B"),
        Row("bytes that the store adds to it", (bytes_ - payloads) / n, "B"),
        Row("on the disk, payload and all", blocks / n, "B"),
        Row("files and folders per artifact", (len(files) + folders) / n),
    ]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _worked() -> float:
    """Processor seconds of all commands until now: on a busy machine they say more than the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _command(root: Path, *args: str) -> tuple[float, int]:
    """A command as a person gives it: a process of its own, from its start to its end."""
    line = [sys.executable, "-m", "refusalctl", "artifacts", *args, "--store", str(root)]
    started = time.perf_counter()
    done = subprocess.run(line, capture_output=True, check=False, cwd=Path(__file__).resolve().parents[2])
    if done.returncode:
        print(done.stderr.decode()[-2000:], file=sys.stderr)
    return time.perf_counter() - started, done.returncode
