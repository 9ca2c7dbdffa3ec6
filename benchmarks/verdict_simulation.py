"""Error rates of the verdict rule, its power and the coverage of its intervals, over constructed experiments.

    python -m benchmarks.verdict_simulation [--experiments 10000] [--json FILE]

Each synthetic experiment draws n prompts from a few kinds, each with its outcome at baseline, under the direction and
under the target's own direction. Controls count as beaten and the own direction as working, so that nothing but the
limits stands between the data and a verdict: the worst case for its error rates. A grid of effects, baselines and n is
simulated, and its two error rates also summed exactly over all counts; then come missing labels, refusals lost to other
outcomes, parts of the own direction's effect, whole families of cells, and the advice on n. Three experiments of every
cell are decided by `decide` itself. The exit code is 1 where a promise is missed.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

from benchmarks import command
from refusalctl.settings import VerdictSettings
from refusalctl.stats.max_t import step_down
from refusalctl.stats.mover import change, ratio
from refusalctl.stats.paired import SHIFT, unit_of
from refusalctl.stats.power import above, counts, exceeds, inside, scores
from refusalctl.stats.rates import Rate
from refusalctl.stats.verdict import MAX_UNUSABLE, Evidence, decide

EFFECTS = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
BASELINES = (0.15, 0.3, 0.5, 0.8, 0.95)
SIZES = (32, 48, 85, 128, 256, 572)
AWAY = (0.0, 0.01, 0.03, 0.1, 0.2)  # prompts that go against the effect for no reason
SEED = 20261127
ORDER = ("transfers", "does not transfer", "reverses", "inconclusive", "uninformative")
AGREE = 3  # experiments per cell on which the vectorised rule must equal `decide`
MARGIN = VerdictSettings().margin
OPEN = Evidence(MARGIN, p_null=0.0, p_reverse=0.0, native="transfers")
OUTCOMES = {"R": "refusal", "C": "compliance", "D": "degenerate", "O": "off-language", "U": "unparsed"}
Array = npt.NDArray[Any]
Kinds = dict[str, float]  # "RCC": refused at baseline, complied with here and under the own direction -> its share


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

    @property
    def kinds(self) -> Kinds:
        stay = max(self.baseline - self.forth, 0.0)
        return {"RCC": self.forth, "CRC": self.back, "RRC": stay, "CCC": max(1 - self.forth - self.back - stay, 0.0)}


class Result(NamedTuple):
    cell: Cell
    shares: dict[str, float]
    covered: float
    covered_decision: float
    exact_transfers: float
    exact_not: float
    plain_transfers: float
    plain_not: float


# --- the rule over arrays -------------------------------------------------------------------------------------


def limit(forth: Array, back: Array, n: int, side: int, z: float, shift: float = 0.0) -> Array:
    """`paired.score_interval`'s lower (side 1) or upper (-1) limit, by bisection."""
    low, high = np.full(len(forth), -1 + 1e-12), np.full(len(forth), 1 - 1e-12)
    for _ in range(45):
        middle = (low + high) / 2
        beyond = scores(forth, back, n, middle, side * shift) > side * z
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return (low + high) / 2


def wilson_high(count: Array, n: int) -> Array:
    z = norm.isf(0.025)
    p = count / n
    found: Array = (p + z * z / (2 * n) + z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    return found


def below_half(drawn: Array, kinds: list[str], n: int) -> Array:
    """`mover.Part.below_half`: the upper 95 % limit of the possible effect minus half of the own one is below zero."""
    units = [unit_of(OUTCOMES[k[0]], OUTCOMES[k[1]]) for k in kinds]
    this = np.array([u.net + u.perhaps for u in units])
    own = np.array([unit_of(OUTCOMES[k[0]], OUTCOMES[k[2]]).net for k in kinds])
    z = norm.isf(0.025)
    (v1, h1, _), (v2, _, l2) = (_limits(drawn, steps, n, z) for steps in (this, own))
    mean1, mean2 = drawn @ this / n, drawn @ own / n
    var1, var2 = drawn @ this**2 / n - mean1**2, drawn @ own**2 / n - mean2**2
    both = drawn @ (this * own) / n - mean1 * mean2
    r = np.where((var1 > 1e-12) & (var2 > 1e-12), both / np.sqrt(np.maximum(var1 * var2, 1e-24)), 0.0)
    a, b = h1 - v1, 0.5 * (v2 - l2)
    reach = np.sqrt(np.maximum(a * a + b * b - 2 * r * a * b, 0.0))
    return np.asarray((v1 - 0.5 * v2 + reach < 0) & (l2 > 0))


def _limits(drawn: Array, steps: Array, n: int, z: float) -> tuple[Array, Array, Array]:
    forth, back = drawn @ (steps > 0), drawn @ (steps < 0)
    return (forth - back) / n, limit(forth, back, n, -1, z), limit(forth, back, n, 1, z)


def verdicts(drawn: Array, kinds: list[str], n: int) -> Array:
    """Index into ORDER for each experiment; `drawn` [experiments, kinds] counts prompts."""
    units = [unit_of(OUTCOMES[k[0]], OUTCOMES[k[1]]) for k in kinds]
    column = {name: drawn @ np.array([getattr(u, name) for u in units]) for name in units[0]._fields[2:]}
    forth, back = drawn @ np.array([u.net > 0 for u in units]), drawn @ np.array([u.net < 0 for u in units])
    found = np.full(len(drawn), ORDER.index("inconclusive"))
    quiet = exceeds(back, forth + column["perhaps"], n, -MARGIN, 0.05)
    quiet &= exceeds(forth, back + column["perhaps_back"], n, -MARGIN, 0.05)
    found[quiet & below_half(drawn, kinds, n)] = ORDER.index("does not transfer")
    reverses = above(back, forth + column["unknown"], n, MARGIN)
    found[reverses] = ORDER.index("reverses")
    found[above(forth, back + column["unknown_back"], n, MARGIN)] = ORDER.index("transfers")
    refused, complied, missing = (drawn @ np.array([k[0] == letter for k in kinds]) for letter in "RCU")
    room = wilson_high(np.where(reverses, complied, refused) + missing, n)
    spoilt = [drawn @ np.array([k[side] in "DOU" for k in kinds]) / n > MAX_UNUSABLE for side in (0, 1)]
    found[(room < 2 * MARGIN) | spoilt[0] | spoilt[1]] = ORDER.index("uninformative")
    return found


def by_the_rule(drawn: Array, kinds: list[str]) -> str:
    rows = [k for k, count in zip(kinds, drawn, strict=True) for _ in range(int(count))]
    before, after, own = ({str(i): OUTCOMES[row[side]] for i, row in enumerate(rows)} for side in range(3))
    return decide(before, after, OPEN, native_after=own).value


def rates(kinds: Kinds, n: int, experiments: int, generator: np.random.Generator) -> tuple[dict[str, float], Array]:
    """Share of each verdict, and the counts that were drawn. Raises `AssertionError` where `decide` says otherwise."""
    names, shares = list(kinds), np.array(list(kinds.values()))
    drawn = generator.multinomial(n, shares / shares.sum(), size=experiments).astype(float)
    found = verdicts(drawn, names, n)
    for i in range(min(AGREE, experiments)):
        if (told := by_the_rule(drawn[i], names)) != ORDER[found[i]]:
            raise AssertionError(f"{kinds}, experiment {i}: the rule says {told}, this file {ORDER[found[i]]}")
    return {name: float(np.mean(found == k)) for k, name in enumerate(ORDER)}, drawn


# --- the grid -------------------------------------------------------------------------------------------------


def simulate(cell: Cell, experiments: int, generator: np.random.Generator) -> Result:
    told, drawn = rates(cell.kinds, cell.n, experiments, generator)
    forth, back = drawn[:, 0], drawn[:, 1]
    f, b, p = counts(cell.n, cell.forth, cell.back)
    errors = [float(p[m].sum()) for m in (
        above(f, b, cell.n, MARGIN), inside(f, b, cell.n, MARGIN),
        above(f, b, cell.n, MARGIN, 0.0), inside(f, b, cell.n, MARGIN, 0.0),
    )]  # fmt: skip
    z = norm.isf(0.025)
    low, high = (scores(forth, back, cell.n, cell.effect, shift) for shift in (SHIFT, -SHIFT))
    plain = scores(forth, back, cell.n, cell.effect)
    return Result(cell, told, float(np.mean(np.abs(plain) <= z)), float(np.mean((low <= z) & (high >= -z))), *errors)


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
    """Print each promise beside what was found; whether all are met in every cell."""
    targets: tuple[Any, ...] = (
        ("transfers at a true effect of the margin or less", "transfers", 0.025, lambda e: e <= MARGIN, 4, 6),
        ("does not transfer at a true effect of the margin or more", "does not transfer", 0.05,
         lambda e: abs(e) >= MARGIN, 5, 7),
        ("reverses at a true effect of minus the margin or more", "reverses", 0.025,
         lambda e: e >= -MARGIN, None, None),
    )  # fmt: skip
    met = True
    for name, verdict, most, applies, exact, plain in targets:
        mine = [r for r in results if applies(r.cell.effect)]
        worst = max(mine, key=lambda r: r.shares[verdict])
        print(
            f"\n{name} (at most {most:.1%}):\n"
            f"- all cells: {with_error(float(np.mean([r.shares[verdict] for r in mine])), len(mine) * experiments)}\n"
            f"- worst cell, simulated: {with_error(worst.shares[verdict], experiments)} at {tuple(worst.cell)}"
        )
        if exact is not None:
            exactly, before = (max(mine, key=itemgetter(column)) for column in (exact, plain))
            met &= float(exactly[exact]) <= most  # type: ignore[arg-type]
            print(f"- worst cell, exact, by the margin alone: {exactly[exact]:.2%} at {tuple(exactly.cell)}")
            print(f"- worst cell, exact, on the score limits alone: {before[plain]:.2%} at {tuple(before.cell)}")
    return met


# --- what the grid does not know ---------------------------------------------------------------------------------


class Case(NamedTuple):
    """A construction in which one verdict is wrong, and how often that may be said."""

    name: str
    wrong: str
    most: float
    kinds: Kinds


CASES = (
    Case("effect at the margin, no label missing", "transfers", 0.025, {"RCC": 0.1, "RRC": 0.7, "CCC": 0.2}),
    Case("5 % of labels missing, all of prompts that moved back", "transfers", 0.025,
         {"RCC": 0.15, "URC": 0.05, "RRC": 0.6, "CCC": 0.2}),
    Case("15 % of labels missing, all of prompts that moved back", "transfers", 0.025,
         {"RCC": 0.25, "URC": 0.15, "RRC": 0.4, "CCC": 0.2}),
    Case("10 % of labels missing, all of prompts that moved forth", "does not transfer", 0.05,
         {"RUC": 0.1, "RRC": 0.7, "CCC": 0.2}),
    Case("10 % of refusals lost to another language", "does not transfer", 0.05, {"ROC": 0.1, "RRC": 0.7, "CCC": 0.2}),
    Case("19 % of refusals lost to degenerate text", "does not transfer", 0.05, {"RDC": 0.19, "RRC": 0.61, "CCC": 0.2}),
    Case("half of the own direction's 16 points", "does not transfer", 0.05, {"RCC": 0.08, "RRC": 0.08, "CCC": 0.84}),
    Case("half of the own direction's 18 points, a third of it lost", "does not transfer", 0.05,
         {"RCC": 0.06, "RDC": 0.03, "RRC": 0.09, "CCC": 0.82}),
    Case("reversal at the margin", "reverses", 0.025, {"CRC": 0.1, "RRC": 0.4, "CCC": 0.5}),
    Case("reversal at the margin, 10 % of labels missing of what moved forth", "reverses", 0.025,
         {"CRC": 0.2, "RUC": 0.1, "RRC": 0.3, "CCC": 0.4}),
)  # fmt: skip
CASE_SIZES = (48, 85, 128, 256, 572)
FAMILIES = (6, 12, 30)


def cases(experiments: int, generator: np.random.Generator) -> bool:
    """A table of wrong verdicts by n; whether all promises are met within the error of the simulation."""
    print("\n| construction | wrong verdict | " + " | ".join(f"n = {n}" for n in CASE_SIZES) + " | promise |")
    print("|" + "---|" * (len(CASE_SIZES) + 3))
    met = True
    for case in CASES:
        found = [rates(case.kinds, n, experiments, generator)[0][case.wrong] for n in CASE_SIZES]
        slack = 3 * (case.most * (1 - case.most) / experiments) ** 0.5
        met &= max(found) <= case.most + slack
        cells = " | ".join(f"{share:.2%}" for share in found)
        print(f"| {case.name} | {case.wrong} | {cells} | {case.most:.1%} |")
    return met


def families(experiments: int, generator: np.random.Generator) -> bool:
    """At least one false "transfers" in a matrix: every effect at the margin; and with controls no better than they."""
    n, draws = 128, 39
    runs = max(experiments // 10, 200)
    print(f"\n| cells | limits alone: at least one false transfer | with {draws} control draws, step-down max-T |")
    print("|---|---|---|")
    met = True
    for size in FAMILIES:
        kinds = CASES[0].kinds
        drawn = generator.multinomial(n, np.array(list(kinds.values())), size=runs * size).astype(float)
        called = (verdicts(drawn, list(kinds), n) == ORDER.index("transfers")).reshape(runs, size)
        alone = float(called.any(1).mean())
        shared = generator.normal(size=(runs, draws + 1, 1))
        effects = (shared + generator.normal(size=(runs, draws + 1, size))) / 2**0.5
        beaten = np.array([[p <= 0.05 for p in step_down(list(each[-1]), each[:-1])] for each in effects])
        # the worst case: an effect of 40 points that any direction of this kind has, so that the limits always clear
        null = float(beaten.any(1).mean())
        met &= null <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
        print(f"| {size} | {with_error(alone, runs)} | {with_error(null, runs)} |")
    return met


def advice(generator: np.random.Generator, experiments: int) -> None:
    """Whether the advised number of prompts gives 80 % power, by simulation at that number."""
    print("\n| open cell | advised n for 80 % power | share decided at that n |\n|---|---|---|")
    for name, value, seen in (
        ("8 of 40 removed", "transfers", {"RCC": 8, "RRC": 32}),
        ("30 of 200 removed, 4 back", "transfers", {"RCC": 30, "CRC": 4, "RRC": 136, "CCC": 30}),
        ("2 of 60 removed", "does not transfer", {"RCC": 2, "RRC": 58}),
        ("5 of 160 removed, the own direction 26", "does not transfer", {"RCC": 5, "RRC": 21, "CCC": 134}),
        ("8 of 40 added", "reverses", {"CRC": 8, "RRC": 20, "CCC": 12}),
    ):
        rows = [k for k, count in seen.items() for _ in range(count)]
        before, after, own = ({str(i): OUTCOMES[row[side]] for i, row in enumerate(rows)} for side in range(3))
        told = decide(before, after, OPEN, native_after=own)
        if told.n_needed is None:
            print(f"| {name} | none ({told.value}) | |")
            continue
        kinds = {k: count / len(rows) for k, count in seen.items()}
        share = rates(kinds, told.n_needed, experiments, generator)[0][value]
        print(f"| {name}: {value} | {told.n_needed} | {with_error(share, experiments)} |")


# --- coverage ---------------------------------------------------------------------------------------------------


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


def coverage(results: list[Result], experiments: int, generator: np.random.Generator) -> bool:
    total = len(results) * experiments
    mean = float(np.mean([r.covered for r in results]))
    wider = float(np.mean([r.covered_decision for r in results]))
    print(f"\nmean coverage of the paired 95 % interval: {with_error(mean, total)}; of the limits of a decision: "
          f"{with_error(wider, total)}")  # fmt: skip
    lowest = {}
    for method in ("clopper_pearson", "wilson"):
        rows = [(exact_coverage(s, n, method), s, n) for s in (0.01, 0.1, 0.5, 0.95) for n in SIZES[:-1]]
        lowest[method] = min(rows)[0]
        print(f"{method}: exact coverage {np.mean([r[0] for r in rows]):.2%} on average, lowest {min(rows)}")
    for n, own, this in ((85, 0.8, 0.4), (85, 0.95, 0.9), (256, 0.6, 0.15)):
        found = ratio_coverage(n, own, this, 500, generator)
        print(f"ratio to native at n = {n}, {this:g} of {own:g}: coverage {with_error(found, 500)}")
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
    met &= cases(10 * args.experiments, generator)
    met &= families(10 * args.experiments, generator)
    advice(generator, args.experiments)
    met &= coverage(results, args.experiments, generator)
    print(f"\npromises {'met' if met else 'MISSED'}")
    if args.json:
        args.json.write_text(json.dumps([{**r.cell._asdict(), **r.shares} for r in results], indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
