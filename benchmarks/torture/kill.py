"""kill -9 at random moments over a small `run`, from prompts to the report, on a planted model. Nothing may be damaged,
lost or computed twice; the ids are those of an undisturbed run; `gc` leaves nothing.
"""

from __future__ import annotations

import random
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.torture import forked
from benchmarks.torture.forked import Moment
from benchmarks.torture.kills import MOST_FAILED, Found, after, collected, ids, looked_at, moment_in, say
from benchmarks.torture.rows import Row, Work
from benchmarks.torture.stores import Whole, settings

N, SHORT, FULL = "kills", 60, 500
SETTINGS = settings("controls = true", "n_controls = 19")


def run(work: Work) -> list[Row]:
    found = of_a_run(work.seed, work.n, work.folder / "run")
    print(*found.told, sep="\n", file=sys.stderr)
    return [*found.rows(), *(Row(f"kills inside {step}", count) for step, count in sorted(found.steps.items()))]


def of_a_run(seed: int, n: int, folder: Path) -> Found:
    """`refusalctl run` until it is done, killed again and again; then from the start, until there were `n` kills."""
    folder.mkdir()
    (folder / "run.toml").write_text(SETTINGS, encoding="utf-8")
    random_, found, log = random.Random(seed), Found(), folder / "begun"
    import_all()
    undisturbed = folder / "undisturbed"
    first = forked.run(lambda: command(undisturbed, folder, folder / "first"), undisturbed, Moment(), folder / "log")
    if first.code != 0:
        raise RuntimeError(f"the undisturbed run ended with {first.code}: {(folder / 'log').read_text()}")
    root, known = folder / "store", set[Whole]()
    while found.kills < n and found.failed < MOST_FAILED:
        moment = moment_in(random_, first.changes, first.seconds)
        ended = forked.run(partial(command, root, folder, log), root, moment, folder / "log")
        known = after(root, known, log, found, ended)
        if not ended.killed:
            found.other_ids += ids(root) != ids(undisturbed)
            collected(root, found)
            looked_at(root, known, found)
            root, known = folder / f"store-{found.kills}", set()
    return found


def import_all() -> None:
    """What a run needs is imported once: children are forked."""
    for module in ("matplotlib.pyplot", "sklearn.decomposition", "transformers", "refusalctl.cli.app"):
        import_module(module)


def command(root: Path, folder: Path, log: Path) -> None:
    """`refusalctl run`, which says what it begins to compute and what it has computed."""
    from refusalctl.cli.app import main
    from refusalctl.steps.step import Step, Workbench

    compute = Workbench._compute

    def said(self: Workbench, step: Step, recipe: Any, key: str, *rest: Any) -> Any:
        say(log, "begin", key, step.name)
        found = compute(self, step, recipe, key, *rest)
        say(log, "end", key, step.name)
        return found

    Workbench._compute = said  # type: ignore[method-assign,assignment]
    sys.argv = ["refusalctl", "run", str(folder / "run.toml"), "--store", str(root)]
    main()
