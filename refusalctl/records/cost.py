"""`cost.json`: what interventions break, beside what they remove; every effect paired with the baseline."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from refusalctl.records.estimates import Interval
from refusalctl.records.record import Part, Record
from refusalctl.records.transfer import ModelKey

# in the order in which they are told
Measure = Literal["removal", "kl", "task", "text", "own", "safe", "unsafe", "off-target"]
Unit = Literal["share", "score", "nats", "nats/token", "nats/byte"]
MatchedBy = Literal["removal", "kl"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


class CostArm(Part, frozen=True):
    """One intervention. `doses` multiply its coefficient (addition) or are the share of the component that is removed
    (ablation, subspace); 1 is the intervention as it was asked for.

    `directions`: ids of the artifacts that hold its vectors; `langs`: of the prompts that these were extracted from.
    """

    name: str
    kind: str
    words: str
    coeff: float
    directions: tuple[str, ...]
    langs: tuple[str, ...]
    doses: tuple[float, ...]
    no_ladder: str | None = None  # why only the full dose was measured


class CostEffect(Part, frozen=True):
    """One measure of one arm at one dose, on the same items as the baseline.

    `name`: the task, text, prompt set or behaviour. `before` and `after` are averages over the items that have a label,
    `difference` is the paired one over all items (removal: the net share that went from refusal to compliance, else
    after minus before), `interval95` its 95 % limits, with missing labels against either end. For shares, items went
    `forth` (removal: from refusal to compliance; else: gained what is counted) and `back`; `p` is exact McNemar's,
    two-sided. None is what does not apply or could not be told: `why` says so where nothing was measured.
    """

    arm: str
    dose: float
    measure: Measure
    name: str
    lang: str | None
    unit: Unit
    n: int
    before: float | None = None
    after: float | None = None
    difference: float | None = None
    interval95: Interval | None = None
    forth: int | None = None
    back: int | None = None
    p: float | None = None
    missing: int = 0  # items that have no label in one of both
    baseline: str | None = None  # artifact ids
    changed: str | None = None
    why: str | None = None


class MatchedDose(Part, frozen=True):
    """A measured dose of an arm at which it reaches a level: no number is interpolated.

    `removal`: the smallest dose that removes at least `level`. `kl`: the largest dose that makes at most `level`.
    `dose` and `reached` None: no measured dose does. Arms without a measurement in the language are left out.
    """

    by: MatchedBy
    lang: str
    level: float
    asked: bool  # whether the level was given, else it is the least of what the full doses reach
    arm: str
    dose: float | None
    reached: float | None


class Unmeasured(Part, frozen=True):
    """A part of the panel that could not be measured, and why."""

    measure: Measure
    name: str
    lang: str | None
    why: str


class Cost(Record, frozen=True):
    FORMAT: ClassVar[str] = "cost"
    FILE: ClassVar[str] = "cost.json"
    VERSION: ClassVar[int] = 1

    model: ModelKey
    data: str
    judge: str
    langs: tuple[str, ...]
    arms: tuple[CostArm, ...]
    effects: tuple[CostEffect, ...]
    matches: tuple[MatchedDose, ...]
    unmeasured: tuple[Unmeasured, ...] = ()
    lm_eval: str | None = None  # its version, where tasks were run

    def of(self, arm: str, dose: float, measure: Measure | None = None, lang: str | None = None) -> list[CostEffect]:
        """Effects of one arm at one dose, of one measure and language where these are given."""
        return [
            e
            for e in self.effects
            if (e.arm, e.dose) == (arm, dose) and measure in (None, e.measure) and lang in (None, e.lang)
        ]
