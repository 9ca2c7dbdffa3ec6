"""How often whole runs call something a transfer where no direction is one.

    python -m benchmarks.null_runs --runs 200

Every run is `Study.transfer` on an organism of its own of the design `sway`: the first language's classes differ in
nothing but chance, so what is found there is drawn as its control directions are, and chosen because it does much.
What it does much by moves the other two languages as well. The tool would refuse such a source, whose refusals say
nothing of harm; it is given the refusals' openings and no limits, so that every run has a direction.

A matrix is wrong that has at least one false "transfers" (or "reverses") of that direction; promised are 5 %. Beside it
stands how many would be wrong by the limits alone, without control directions. Seconds are those of whole runs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

import refusalctl as rc
from benchmarks import command
from refusalctl.organisms.words import REFUSAL
from refusalctl.records.transfer import Transfer
from refusalctl.stats.rates import Rate
from refusalctl.steps.transfer import read_transfer

PROMISED = 0.05
ASKED: dict[str, Any] = {
    "sources": ["qaa"], "targets": ["qab", "qac"], "n_train": 16, "n_val": 24, "n_test": 48, "layers": [2, 3, 4, 5],
    "positions": [-1, -2], "max_new_tokens": 6, "n_controls": 19, "induce": False, "min_induce": float("-inf"),
    "max_kl": float("inf"), "opening_judge": "substring", "batch_size": 128, "device": "cpu", "dtype": "float32",
    "refusal_openings": [f"{lang}={words[0]}" for lang, words in REFUSAL.items()],
}  # fmt: skip


class Run(NamedTuple):
    """Verdicts of the direction by target, how many of these cells clear the margin before controls are asked, and the
    smallest adjusted p."""

    seed: int
    verdicts: tuple[str, ...]
    cleared: int
    p: float | None
    seconds: float


def run(seed: int, **changes: Any) -> Run:
    name, started = f"organism:sway:llama:{seed}", time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        study = rc.Study(model=name, data=name, store=folder, **(ASKED | changes))
        return _counted(seed, read_transfer(study.transfer().artifact), time.monotonic() - started)


def _counted(seed: int, found: Transfer, seconds: float) -> Run:
    removals = [cell.removal for cell in found.cells if cell.condition == "transferred" and cell.removal is not None]
    margin = found.limits.margin
    cleared = sum(each.limits95 is not None and each.limits95.low > margin for each in removals)
    known = [each.p_null for each in removals if each.p_null is not None]
    return Run(seed, tuple(each.value for each in removals), cleared, min(known, default=None), seconds)


def told(runs: Sequence[Run]) -> str:
    """A table of matrices: with a direction, wrong by the limits alone, wrong as decided."""
    with_direction = [each for each in runs if each.verdicts]
    rows = [("runs with a direction", Rate(len(with_direction), len(runs)))]
    rows.append(("a cell clears the margin", Rate(sum(bool(each.cleared) for each in runs), len(runs))))
    rows += [(f"a false {value!r}", wrong(runs, value)) for value in ("transfers", "reverses")]
    lines = ["| matrices with | of all | 95 % limits |", "|---|---|---|"]
    for name, rate in rows:
        low, high = rate.clopper_pearson()
        lines.append(f"| {name} | {rate.count} of {rate.n}, {rate.value:.1%} | {low:.1%} to {high:.1%} |")
    seconds = sorted(each.seconds for each in runs)
    lines.append(f"\n{seconds[len(seconds) // 2]:.1f} s a run (median), {sum(seconds):.0f} s together")
    return "\n".join(lines)


def wrong(runs: Sequence[Run], value: str) -> Rate:
    return Rate(sum(value in each.verdicts for each in runs), len(runs))


def main(argv: list[str] | None = None) -> None:
    options = command.parser(__doc__)
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many, with what there is")
    command.add_out(options)
    asked = options.parse_args(argv)
    torch.set_num_threads(1)
    until, runs = time.monotonic() + 60 * asked.minutes, list[Run]()
    for seed in range(asked.first_seed, asked.first_seed + asked.runs):
        if time.monotonic() > until:
            break
        runs.append(run(seed))
        print(*runs[-1], file=sys.stderr, flush=True)
    print(told(runs))
    command.write_figures(asked.out, [each._asdict() for each in runs])
    if any(wrong(runs, value).clopper_pearson().low > PROMISED for value in ("transfers", "reverses")):
        sys.exit("more matrices are wrong than is promised")


if __name__ == "__main__":
    main()
