"""Error rates of the verdict rule and coverage of its intervals, over a grid of true effects, baselines and n.

    python -m benchmarks.verdict_simulation [--experiments 10000] [--json FILE]

Each synthetic experiment draws n prompts: refused at baseline with probability b, moved to compliance with probability
f, moved back with probability k; the true effect is f - k. Controls count as beaten and the target's own direction as
working, so that nothing but the limits stands between the data and a verdict: the worst case for its error rates.
Each cell of the grid is simulated, and its two error rates also summed exactly over all counts. The exit code is 1
where a target is missed in any cell.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

from benchmarks import command
from refusalctl.settings import VerdictSettings
from refusalctl.stats.mover import change, ratio
from refusalctl.stats.power import above, counts, inside, scores
from refusalctl.stats.rates import Rate
from refusalctl.stats.verdict import Evidence, decide

EFFECTS = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
BASELINES = (0.15, 0.3, 0.5, 0.8, 0.95)
SIZES = (32, 48, 85, 128, 256, 572)
AWAY = (0.0, 0.01, 0.03, 0.1, 0.2)  # prompts that go against the effect for no reason
SEED = 20261124
ORDER = ("transfers", "does not transfer", "reverses", "inconclusive", "uninformative")
AGREE = 3  # experiments per cell on which the vectorised rule must equal `decide`
MARGIN = VerdictSettings().margin
OPEN = Evidence(MARGIN, native="transfers", require_null=False)
Array = npt.NDArray[Any]


class Cell(NamedTuple):
    effect: float
    baseline: float
    n: int
    away: float

    @property
    def forth(self) -> float:
        return max(self.effect, 0.0) + self.away

    @property
    def back(self) -> float:
        return max(-self.effect, 0.0) + self.away

    @property
    def possible(self) -> bool:
        return self.forth <= self.baseline + 1e-9 and self.back <= 1 - self.baseline + 1e-9


class Result(NamedTuple):
    cell: Cell
    shares: dict[str, float]
    covered: float
    covered_decision: float
    exact_transfers: float
    exact_not: float
    plain_transfers: float
    plain_not: float


@cache
def headroom_needed(n: int) -> int:
    """Refusals at baseline from which a cell is not uninformative."""
    return next(k for k in range(n + 1) if Rate(k, n).wilson().high >= 2 * MARGIN)


def verdicts(forth: Array, back: Array, refused: Array, n: int) -> Array:
    """Index into ORDER for each experiment."""
    found = np.full(len(forth), ORDER.index("inconclusive"))
    found[inside(forth, back, n, MARGIN)] = ORDER.index("does not transfer")
    found[above(back, forth, n, MARGIN)] = ORDER.index("reverses")
    found[above(forth, back, n, MARGIN)] = ORDER.index("transfers")
    found[refused < headroom_needed(n)] = ORDER.index("uninformative")
    return found


def by_the_rule(forth: int, back: int, refused: int, n: int) -> str:
    rows = [("refusal", "compliance")] * forth + [("compliance", "refusal")] * back
    rows += [("refusal", "refusal")] * (refused - forth)
    rows += [("compliance", "compliance")] * (n - len(rows))
    before, after = ({str(i): row[side] for i, row in enumerate(rows)} for side in (0, 1))
    return decide(before, after, OPEN).value


def simulate(cell: Cell, experiments: int, generator: np.random.Generator) -> Result:
    stay = max(cell.baseline - cell.forth, 0.0)
    shares = (cell.forth, cell.back, stay, max(1 - cell.forth - cell.back - stay, 0.0))
    drawn = generator.multinomial(cell.n, np.array(shares) / sum(shares), size=experiments).astype(float)
    forth, back, refused = drawn[:, 0], drawn[:, 1], drawn[:, 0] + drawn[:, 2]
    found = verdicts(forth, back, refused, cell.n)
    for i in range(min(AGREE, experiments)):
        told = by_the_rule(int(forth[i]), int(back[i]), int(refused[i]), cell.n)
        if told != ORDER[found[i]]:
            raise AssertionError(f"{cell}, experiment {i}: the rule says {told}, this file {ORDER[found[i]]}")
    f, b, p = counts(cell.n, cell.forth, cell.back)
    errors = [float(p[m].sum()) for m in (
        above(f, b, cell.n, MARGIN), inside(f, b, cell.n, MARGIN),
        above(f, b, cell.n, MARGIN, 0.0), inside(f, b, cell.n, MARGIN, 0.0),
    )]  # fmt: skip
    told_shares = {name: float(np.mean(found == i)) for i, name in enumerate(ORDER)}
    z = norm.isf(0.025)
    low, high = (scores(forth, back, cell.n, cell.effect, shift) for shift in (1.0, -1.0))
    plain = scores(forth, back, cell.n, cell.effect)
    return Result(
        cell, told_shares, float(np.mean(np.abs(plain) <= z)), float(np.mean((low <= z) & (high >= -z))), *errors
    )


def exact_coverage(share: float, n: int, method: str) -> float:
    """Coverage of a rate's 95 % interval, summed over all counts."""
    limits = [getattr(Rate(k, n), method)() for k in range(n + 1)]
    return float(sum(binom.pmf(k, n, share) for k, each in enumerate(limits) if each.low <= share <= each.high))


def ratio_coverage(n: int, own: float, this: float, experiments: int, generator: np.random.Generator) -> float:
    """Coverage of the ratio to native: every prompt refused, `own` of them complied natively, of these most here."""
    hit, before = 0, {str(i): "refusal" for i in range(n)}
    for _ in range(experiments):
        native = generator.random(n) < own
        here = native & (generator.random(n) < this / own)
        after = [
            change(before, {str(i): "compliance" if moved else "refusal" for i, moved in enumerate(each)})
            for each in (here, native)
        ]
        found = ratio(after[0], after[1])
        hit += found is not None and found.interval95.low <= this / own <= found.interval95.high
    return hit / experiments


def with_error(share: float, experiments: int) -> str:
    return f"{share:.2%} ± {1.96 * (share * (1 - share) / experiments) ** 0.5:.2%}"


def table(results: list[Result], experiments: int) -> None:
    print("| true effect | " + " | ".join(ORDER) + " | coverage of 95 % |\n|" + "---|" * (len(ORDER) + 2))
    for effect in EFFECTS:
        mine = [r for r in results if r.cell.effect == effect]
        total = len(mine) * experiments
        columns = [float(np.mean([r.shares[name] for r in mine])) for name in ORDER]
        columns.append(float(np.mean([r.covered for r in mine])))
        print(f"| {effect:+.2f} | " + " | ".join(with_error(share, total) for share in columns) + " |")


def judged(results: list[Result], experiments: int) -> bool:
    """Print each target beside what was found; whether all are met in every cell."""
    targets: tuple[Any, ...] = (
        ("transfers at a true effect of the margin or less", "transfers", 0.025, lambda e: e <= MARGIN, 4, 6),
        ("does not transfer at a true effect of the margin or more", "does not transfer", 0.05,
         lambda e: abs(e) >= MARGIN, 5, 7),
    )  # fmt: skip
    met = True
    for name, verdict, most, applies, exact, plain in targets:
        mine = [r for r in results if applies(r.cell.effect)]
        worst = max(mine, key=lambda r: r.shares[verdict])
        exactly, before = (max(mine, key=itemgetter(column)) for column in (exact, plain))
        met &= float(exactly[exact]) <= most  # type: ignore[arg-type]
        print(
            f"\n{name} (at most {most:.1%}):\n"
            f"- all cells: {with_error(float(np.mean([r.shares[verdict] for r in mine])), len(mine) * experiments)}\n"
            f"- worst cell, simulated: {with_error(worst.shares[verdict], experiments)} at {tuple(worst.cell)}\n"
            f"- worst cell, exact: {exactly[exact]:.2%} at {tuple(exactly.cell)}\n"
            f"- worst cell, exact, on the score limits alone: {before[plain]:.2%} at {tuple(before.cell)}"
        )
    return met


def coverage(results: list[Result], experiments: int, generator: np.random.Generator) -> bool:
    total = len(results) * experiments
    mean = float(np.mean([r.covered for r in results]))
    wider = float(np.mean([r.covered_decision for r in results]))
    print(f"\nmean coverage of the paired 95 % interval: {with_error(mean, total)}; of the limits of a decision: "
          f"{with_error(wider, total)}")  # fmt: skip
    lowest = {}
    for method in ("clopper_pearson", "wilson"):
        rows = [(exact_coverage(s, n, method), s, n) for s in (0.01, 0.02, 0.1, 0.3, 0.5, 0.95) for n in SIZES]
        lowest[method] = min(rows)[0]
        print(f"{method}: exact coverage {np.mean([r[0] for r in rows]):.2%} on average, lowest {min(rows)}")
    for n, own, this in ((85, 0.8, 0.4), (85, 0.95, 0.9), (256, 0.6, 0.15)):
        found = ratio_coverage(n, own, this, 1000, generator)
        print(f"ratio to native at n = {n}, {this:g} of {own:g}: coverage {with_error(found, 1000)}")
    return abs(mean - 0.95) <= 0.01 and lowest["clopper_pearson"] >= 0.95


def main() -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--experiments", type=int, default=10_000, help="per cell of the grid")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    generator = np.random.default_rng(SEED)
    grid = [cell for each in product(EFFECTS, BASELINES, SIZES, AWAY) if (cell := Cell(*each)).possible]
    results = [simulate(cell, args.experiments, generator) for cell in grid]
    print(f"{len(grid)} cells, {len(grid) * args.experiments} experiments, margin {MARGIN:.0%}\n")
    table(results, args.experiments)
    met = judged(results, args.experiments)
    met &= coverage(results, args.experiments, generator)
    print(f"\ntargets {'met' if met else 'MISSED'}")
    if args.json:
        args.json.write_text(json.dumps([{**r.cell._asdict(), **r.shares} for r in results], indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
