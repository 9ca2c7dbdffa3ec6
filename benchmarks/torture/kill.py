"""kill -9 at random moments over a small `run`, from prompts to the report, on a planted model. Nothing may be damaged,
lost or computed twice; the ids are those of an undisturbed run; `gc` leaves nothing.

Two of three moments lie inside the kind of step that was hit least, so that each is hit often; the others anywhere.
The report draws one of its figures, the others are empty, and its geometry shuffles 19 times: what they cost would only
make kills rarer.
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.torture import forked
from benchmarks.torture.forked import Moment
from benchmarks.torture.kills import MOST_FAILED, Found, after, collected, ids, looked_at, moment_in, say
from benchmarks.torture.rows import Row, Work
from benchmarks.torture.stores import Whole, settings
from refusalctl.settings import GeometrySettings

N, SHORT, FULL = "kills", 60, 500
SETTINGS = settings("controls = true", "n_controls = 19", "control_completions = 0", "control_candidates = 1")
ANYWHERE = 1 / 3  # of the moments


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
    import_as(folder / "imported")
    steps, costs = _steps(folder / "first"), json.loads((folder / "counted").read_text(encoding="utf-8"))
    found.steps.update(dict.fromkeys(steps.values(), 0))
    root, known = folder / "store", set[Whole]()
    while found.kills < n and found.failed < MOST_FAILED:
        left = Counter(step for key, step in steps.items() if key not in {each.key for each in known})
        moment = moment_in(random_, first.changes, first.seconds)
        if left and random_.random() >= ANYWHERE:
            moment = _inside(random_, left, found.steps, costs, Counter(steps.values()))
        ended = forked.run(partial(command, root, folder, log), root, moment, folder / "log")
        known = after(root, known, log, found, ended)
        if not ended.killed:
            found.other_ids += ids(root) != ids(undisturbed)
            collected(root, found)
            looked_at(root, known, found)
            root, known = folder / f"store-{found.kills}", set()
    return found


def _steps(log: Path) -> dict[str, str]:
    """Recipes that the undisturbed run computed, and the kind of step of each."""
    lines = (line.split() for line in log.read_text(encoding="utf-8").splitlines())
    return {key: step for word, key, step in lines if word == "begin"}


def _inside(
    random_: random.Random, left: Counter[str], hit: Counter[str], costs: dict[str, int], whole: Counter[str]
) -> Moment:
    """In the kind of step that was hit least, of those that are not all done, at one of the operations left in it."""
    least = min(hit[step] for step in left)
    step = random_.choice(sorted(step for step in left if hit[step] == least))
    return Moment(change=random_.randint(1, max(1, costs[step] * left[step] // whole[step])), step=step)


def import_all() -> None:
    """What a run needs is imported once, and made small: children are forked."""
    for module in ("matplotlib.pyplot", "sklearn.decomposition", "transformers", "refusalctl.cli.app"):
        import_module(module)
    make = import_module("refusalctl.report.make")
    vars(make)["GeometrySettings"] = partial(GeometrySettings, permutations=19, separation_permutations=3)
    vars(make)["_figures"] = partial(_drawn, vars(make).pop("_figures"))


def import_as(names: Path) -> None:
    """What an undisturbed run had imported in the end: half of what a child would do."""
    for name in names.read_text(encoding="utf-8").split():
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")
            import_module(name)


def _drawn(planned: Callable[[Any], Iterator[Any]], rows: Any) -> Iterator[Any]:
    from matplotlib.figure import Figure

    for number, (what, name, draw) in enumerate(planned(rows)):
        yield what, name, partial(Figure, figsize=(1, 1)) if number else draw


def command(root: Path, folder: Path, log: Path) -> None:
    """`refusalctl run`, which says what it begins to compute and what it has computed."""
    from refusalctl.cli.app import main
    from refusalctl.steps.step import Step, Workbench

    compute = Workbench._compute

    def said(self: Workbench, step: Step, recipe: Any, key: str, *rest: Any) -> Any:
        say(log, "begin", key, step.name)
        forked.inside.append(step.name)
        found = compute(self, step, recipe, key, *rest)
        forked.inside.pop()
        say(log, "end", key, step.name)
        return found

    Workbench._compute = said  # type: ignore[method-assign,assignment]
    sys.argv = ["refusalctl", "run", str(folder / "run.toml"), "--store", str(root)]
    try:
        main()
    finally:
        (folder / "counted").write_text(json.dumps(forked.counted), encoding="utf-8")
        (folder / "imported").write_text("\n".join(sorted(sys.modules)), encoding="utf-8")
