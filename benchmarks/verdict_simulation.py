"""Error rates of the verdict rule and coverage of its intervals, over a grid of true effects, baselines and n.

    python benchmarks/verdict_simulation.py [--experiments 1000]

Each synthetic experiment draws n prompts: refused at baseline with probability b, moved to compliance with probability
f, moved back with probability k; the true effect is f - k. Controls count as beaten and the target's own direction as
working, so that nothing but the intervals stands between the data and a verdict: the worst case for its error rates.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from refusalctl.stats.paired import score_interval
from refusalctl.stats.rates import Interval, Rate
from refusalctl.stats.verdict import ALPHA, CORRECTION, MARGIN

EFFECTS = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
BASELINES = (0.3, 0.5, 0.8, 0.95)
SIZES = (48, 85, 128, 256, 572)
BACK = (0.0, 0.03)  # prompts that go the other way for no reason
SEED = 20261124


class Cell(NamedTuple):
    effect: float
    baseline: float
    n: int
    back: float

    @property
    def forth(self) -> float:
        return self.effect + self.back

    @property
    def possible(self) -> bool:
        """Moves come from prompts that are there to move; a negative effect needs moves back alone."""
        return 0 <= self.forth <= self.baseline and self.back <= 1 - self.baseline


class Drawn(NamedTuple):
    verdict: str
    covered: bool


@cache
def limits(forth: int, back: int, n: int) -> tuple[Interval, Interval]:
    """What the rule compares with the margin: 95 % and 90 % limits, corrected for continuity."""
    return score_interval(forth, back, n, ALPHA, CORRECTION), score_interval(forth, back, n, 2 * ALPHA, CORRECTION)


@cache
def shown(forth: int, back: int, n: int) -> Interval:
    """The interval that is reported."""
    return score_interval(forth, back, n, ALPHA)


@cache
def headroom(refused: int, n: int) -> float:
    return Rate(refused, n).wilson().high


def verdict(forth: int, back: int, refused: int, n: int) -> str:
    """The rule with its gates open; tests hold it equal to `decide`."""
    if headroom(refused, n) < 2 * MARGIN:
        return "uninformative"
    at95, at90 = limits(forth, back, n)
    if at95.low > MARGIN:
        return "transfers"
    if at95.high < -MARGIN:
        return "reverses"
    return "does not transfer" if at90.low > -MARGIN and at90.high < MARGIN else "inconclusive"


def simulate(cell: Cell, experiments: int, generator: np.random.Generator) -> list[Drawn]:
    stay = cell.baseline - cell.forth
    shares = (cell.forth, cell.back, stay, 1 - cell.forth - cell.back - stay)
    drawn = generator.multinomial(cell.n, shares, size=experiments)
    found = []
    for forth, back, still, _ in drawn.tolist():
        low, high = shown(forth, back, cell.n)
        found.append(Drawn(verdict(forth, back, forth + still, cell.n), low <= cell.effect <= high))
    return found


@cache
def exact(count: int, n: int) -> Interval:
    """Clopper and Pearson 1934, by scipy."""
    found = binomtest(count, n).proportion_ci(0.95, method="exact")
    return Interval(float(found.low), float(found.high))


def exact_coverage(share: float, n: int, experiments: int, generator: np.random.Generator) -> float:
    drawn = generator.binomial(n, share, size=experiments).tolist()
    return float(np.mean([exact(k, n).low <= share <= exact(k, n).high for k in drawn]))


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def with_error(share: float, experiments: int) -> str:
    return f"{share:.2%} ± {1.96 * (share * (1 - share) / experiments) ** 0.5:.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000, help="per cell of the grid")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    generator = np.random.default_rng(SEED)
    grid = [
        cell
        for effect, baseline, n, back in product(EFFECTS, BASELINES, SIZES, BACK)
        if (cell := Cell(effect, baseline, n, back if effect >= 0 else back - effect)).possible
    ]
    rows = [(cell, simulate(cell, args.experiments, generator)) for cell in grid]
    total = len(grid) * args.experiments
    print(f"{len(grid)} cells, {total} experiments, margin {MARGIN:.0%}\n")
    print(
        "| true effect | transfers | does not transfer | reverses | inconclusive | uninformative | coverage of 95 % |"
    )
    print("|---|---|---|---|---|---|---|")
    for effect in EFFECTS:
        mine = [d for cell, drawn in rows if cell.effect == effect for d in drawn]
        counts = Counter(d.verdict for d in mine)
        order = ("transfers", "does not transfer", "reverses", "inconclusive", "uninformative")
        shares = " | ".join(with_error(counts[v] / len(mine), len(mine)) for v in order)
        print(f"| {effect:+.2f} | {shares} | {with_error(mean(d.covered for d in mine), len(mine))} |")
    print()
    at_most = [row for row in rows if row[0].effect <= MARGIN]
    at_least = [row for row in rows if row[0].effect >= MARGIN]
    at_margin = [row for row in rows if row[0].effect == MARGIN]
    for name, value, cells in (
        ("transfers, true effect of the margin or less", "transfers", at_most),
        ("transfers, true effect of exactly the margin", "transfers", at_margin),
        ("does not transfer, true effect of the margin or more", "does not transfer", at_least),
        ("does not transfer, true effect of exactly the margin", "does not transfer", at_margin),
    ):
        shares_of = {cell: mean(d.verdict == value for d in drawn) for cell, drawn in cells}
        worst = max(shares_of, key=lambda cell: shares_of[cell])
        on_average = with_error(mean(shares_of.values()), len(cells) * args.experiments)
        print(f"{name}: {on_average} on average, worst cell {with_error(shares_of[worst], args.experiments)} ({worst})")
    covered = mean(d.covered for _, drawn in rows for d in drawn)
    print(f"mean coverage of the paired 95 % interval: {with_error(covered, total)}")
    checks = [
        (share, n, exact_coverage(share, n, 10_000, generator)) for share in (0.02, 0.3, 0.5, 0.95) for n in SIZES
    ]
    lowest = min(checks, key=lambda row: row[2])
    print(f"Clopper-Pearson, lowest coverage of {len(checks)} cells: {with_error(lowest[2], 10_000)} {lowest[:2]}")
    if args.json:
        args.json.write_text(
            json.dumps([{**c._asdict(), **Counter(d.verdict for d in drawn)} for c, drawn in rows], indent=1)
        )


if __name__ == "__main__":
    main()
