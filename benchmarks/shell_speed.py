"""What a shell user waits for, and what the store adds to reading, hashing and copying bytes.

`python -m benchmarks.shell_speed [--artifacts 10000 --mib 1024 --rounds 5 --out shell.json]`. Commands are processes of
their own, timed by the clock, best to worst of `--rounds`; the store is one of `--artifacts` small artifacts.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.selection_speed import spread
from refusalctl.json_types import JsonObject
from refusalctl.store.store import Artifact, Store

BLOCK = 1 << 20


def seconds(work: Callable[[], object], rounds: int) -> dict[str, float]:
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return spread(found)


def script(*args: str) -> Callable[[], object]:
    """The installed console script in a process of its own."""
    installed = str(Path(sys.executable).with_name("refusalctl"))
    return lambda: subprocess.run([installed, *args], check=True, capture_output=True)


def filled(folder: Path, n: int) -> Store:
    """A store of `n` artifacts as `judge` leaves them."""
    store = Store(folder)
    for i in range(n):
        with store.draft() as out:
            (out / "labels.jsonl").write_text(json.dumps({"row": i}) + "\n", encoding="utf-8")
            recipe: JsonObject = {"step": "judge", "version": 1, "params": {"i": i}, "inputs": {}}
            store.commit(out, "labels", recipe, {"lang": "en", "kind": "harmful", "n": 1, "judge": "substring"}, {})
    return store


def commands(rounds: int, n: int, folder: Path) -> dict[str, dict[str, float]]:
    started = time.perf_counter()
    filled(folder, n)
    put = (time.perf_counter() - started) / n
    asked = {
        "--help": ("--help",),
        "select --help": ("select", "--help"),
        f"artifacts ls, {n:,} artifacts": ("artifacts", "ls", "--store", str(folder)),
        f"artifacts ls --json, {n:,} artifacts": ("artifacts", "ls", "--json", "--store", str(folder)),
    }
    found = {name: seconds(script(*args), rounds) for name, args in asked.items()}
    return found | {"commit of one small artifact": {"median": put, "min": put, "max": put}}


def rates(mib: int, rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """MiB/s of committing and checking one large payload, and of the hash and the copy that it cannot do without."""
    source, copy = folder / "source", folder / "copy"
    with source.open("wb") as out:
        for _ in range(mib):
            out.write(os.urandom(BLOCK))
    store = Store(folder / "store")

    def hashed() -> None:
        with source.open("rb") as content:
            hashlib.file_digest(content, "sha256")

    def copied() -> None:
        shutil.copyfile(source, copy)

    turn = iter(range(1000))

    made: list[Artifact] = []

    def put() -> None:
        with store.draft() as out:
            os.link(source, out / "activations.bin")  # the step writes its payload there itself
            recipe: JsonObject = {"step": "collect", "version": 1, "params": {"turn": next(turn)}, "inputs": {}}
            made.append(store.commit(out, "activations", recipe, {"lang": "en"}, {}))

    work: dict[str, Callable[[], object]] = {
        "SHA-256": hashed,
        "disk copy": copied,
        "commit": put,
        "check": lambda: store.check(made[-1]),
    }
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, each in work.items():
            started = time.perf_counter()
            each()
            found[name].append(mib / (time.perf_counter() - started))
    return {name: spread(each) for name, each in found.items()}


def main(args: Sequence[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    command.add_out(parser)
    given = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as folder:
        value: dict[str, Any] = {
            "seconds": commands(given.rounds, given.artifacts, Path(folder) / "many"),
            "mib_per_second": rates(given.mib, given.rounds, Path(folder)),
        }
    command.write_figures(given.out, value)
    for name, each in value["seconds"].items():
        print(f"{name}: {each['median']:.3f} s ({each['min']:.3f} to {each['max']:.3f})")
    for name, each in value["mib_per_second"].items():
        print(f"{name}: {each['median']:.0f} MiB/s ({each['min']:.0f} to {each['max']:.0f})")


if __name__ == "__main__":
    main()
