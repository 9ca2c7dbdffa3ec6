"""What the store and long work promise, put to the test; one table, and exit code 1 where a promise is broken.

    python -m benchmarks.torture all --short       # as `make torture` does
    python -m benchmarks.torture kill --seed 3 --n 500

Everything is drawn from the seed; it writes into a folder of its own (`--folder`), which is removed at the end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.torture.rows import Row, Work, table

PARTS = {
    "kill": "benchmarks.torture.kill",  # a run, killed at random moments
    "kill_store": "benchmarks.torture.kill_store",  # operations of the store, likewise
    "crowd": "benchmarks.torture.crowd",  # many writers and readers on one store
    "rot": "benchmarks.torture.rot",  # bytes that change, files that go
    "many": "benchmarks.torture.many",  # large stores
    "disk": "benchmarks.torture.disk",  # full, over a quota, broken, read-only
    "fuzz": "benchmarks.torture.fuzz",  # hostile files
}


def run_part(name: str, work: Work) -> list[Row]:
    """One part in a folder of its own; how long it took is its last row."""
    started = time.perf_counter()
    rows: list[Row] = list(import_module(PARTS[name]).run(work))
    return [*rows, Row("time taken", time.perf_counter() - started, "s")]


def main(args: Sequence[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.prog = "python -m benchmarks.torture"
    choices = [*PARTS, "all"]
    parser.add_argument("parts", nargs="+", choices=choices, metavar="PART", help=f"one of {', '.join(choices)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, help="how much: kills, processes, damages, artifacts")
    parser.add_argument("--seconds", type=float, help="how long a crowd works")
    parser.add_argument("--short", action="store_true", help="the bounded form: minutes for all parts")
    parser.add_argument("--folder", type=Path, help="where to work, on the file system that is to be tested")
    command.add_out(parser)
    given = parser.parse_args(args)
    names = list(PARTS) if "all" in given.parts else list(dict.fromkeys(given.parts))
    found: list[tuple[str, Row]] = []
    for name in names:
        part: Any = import_module(PARTS[name])
        n = given.n or (part.SHORT if given.short else part.FULL)
        seconds = given.seconds or (20.0 if given.short else 120.0)
        print(f"{name}: {n} {part.N}", file=sys.stderr, flush=True)
        prefix = f"torture-{name}-"
        with tempfile.TemporaryDirectory(dir=given.folder, prefix=prefix, ignore_cleanup_errors=True) as room:
            found += [(name, row) for row in run_part(name, Work(given.seed, n, Path(room), seconds))]
    figures = [{"part": part, **row._asdict(), "kept": row.kept} for part, row in found]
    command.write_figures(given.out, {"seed": given.seed, "rows": figures})
    print(table(found))
    sys.exit(0 if all(row.kept for _, row in found) else 1)


if __name__ == "__main__":
    main()
