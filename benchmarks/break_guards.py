"""Takes each guard of docs/guards.md out of a copy of the project and runs the test that must then fail.

`python -m benchmarks.break_guards` from the repository's root; with words, only guards whose file or test holds one of
them. `--table` prints the table of docs/guards.md. Exit code 1 where a test fails without a break, or where a break is
not noticed.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import command

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("refusalctl", "tests", "benchmarks", "PolyRefuse", "docs", "examples", "README.md", "pyproject.toml")


@dataclass(frozen=True)
class Guard:
    """`old` in `file` becomes `new`, which takes the guard out; then `test` fails."""

    says: str
    file: str
    old: str
    new: str
    test: str

    def broken(self, text: str) -> str:
        """The file's text without the guard. Raises `ValueError` unless `old` is there exactly once."""
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.file}: the text of {self.says!r} is there {found} times, expected once")
        return text.replace(self.old, self.new)

    def where(self) -> str:
        """File and innermost function that hold the guard."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        name = self.file.removeprefix("refusalctl/")
        if not name.endswith(".py"):
            return name
        start = text[: text.index(self.old) + len(self.old) - len(self.old.lstrip())].count("\n") + 1
        around = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and node.lineno <= start <= (node.end_lineno or 0)
        ]
        return f"{name}: {max(around, key=lambda node: node.lineno).name}" if around else name


@dataclass(frozen=True)
class Hazard:
    what: str
    guards: tuple[Guard, ...]


def hazards() -> list[Hazard]:
    raw = tomllib.loads(Path(__file__).with_name("guards.toml").read_text(encoding="utf-8"))
    return [Hazard(each["what"], tuple(Guard(**guard) for guard in each["guard"])) for each in raw["hazard"]]


def table() -> Iterator[str]:
    """Markdown: hazard, guard, where it is, and the test that fails without it."""
    yield "| what happened | guard | in `refusalctl/` | test that fails without it |"
    yield "|---|---|---|---|"
    for hazard in hazards():
        for i, guard in enumerate(hazard.guards):
            file, _, test = guard.test.removeprefix("tests/").partition("::")
            yield f"| {'' if i else hazard.what} | {guard.says} | `{guard.where()}` | `{file}`: `{test}` |"


class PytestRun:
    """One run of pytest in the copy."""

    def __init__(self, place: Path, tests: Collection[str]) -> None:
        # no bytecode: Python takes a changed file of the same size and second for the one that it compiled
        env = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--tb=no", *tests],
            cwd=place, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.seconds = time.perf_counter() - started
        self.passed = done.returncode == 0
        # other exit codes are of files that cannot be imported, and of tests that are not there
        self.failed = done.returncode == 1 and re.search(r"\b[1-9]\d* failed\b", done.stdout) is not None
        self.said = (done.stdout.strip().splitlines() or ["nothing"])[-1]


def break_one(place: Path, guard: Guard) -> PytestRun:
    path = place / guard.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(guard.broken(whole), encoding="utf-8")
    try:
        return PytestRun(place, [guard.test])
    finally:
        path.write_text(whole, encoding="utf-8")


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument("words", nargs="*", help="parts of file names or tests; all guards by default")
    parser.add_argument("--table", action="store_true", help="print the table of docs/guards.md and run nothing")
    given = parser.parse_args()
    words: list[str] = given.words
    if given.table:
        say("\n".join(table()))
        return 0
    known = [guard for hazard in hazards() for guard in hazard.guards]
    chosen = [g for g in known if not words or any(w in g.file or w in g.test for w in words)]
    with tempfile.TemporaryDirectory() as room:
        place = Path(room)
        for name in NEEDED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, place / name)
        whole = PytestRun(place, dict.fromkeys(guard.test for guard in chosen))
        say(f"{len(chosen)} guards, nothing taken out: {whole.said}")
        if not whole.passed:
            return 1
        unnoticed = 0
        for guard in chosen:
            ran = break_one(place, guard)
            unnoticed += not ran.failed
            say(f"{'noticed' if ran.failed else 'UNNOTICED':9} {ran.seconds:5.1f} s  {guard.where()}: {guard.says}")
            if not ran.failed:
                say(f"          {guard.test}: {ran.said}")
    say(f"{len(chosen) - unnoticed} of {len(chosen)} breaks noticed")
    return int(unnoticed > 0)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
