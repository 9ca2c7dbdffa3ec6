"""`transfer.json`: every direction in every language: answers counted, moves, and the verdict of each cell."""

from __future__ import annotations

from typing import ClassVar, Literal

from refusalctl.records.cell import Cell, Condition
from refusalctl.records.estimates import Interval
from refusalctl.records.record import Part, Record
from refusalctl.records.rows import Kind
from refusalctl.records.verdict import Unusable, Verdict, VerdictValue

Scalar = str | int | float | bool | None
SettingsGroup = dict[str, Scalar | tuple[Scalar, ...]]
ModelKey = dict[str, str | bool | None]


class OutcomeCounts(Part, frozen=True):
    """Answers by outcome. Compliance in another language than the prompt's is `off_language`, a refusal is not."""

    refusal: int = 0
    compliance: int = 0
    degenerate: int = 0
    off_language: int = 0
    unparsed: int = 0

    @property
    def labelled(self) -> int:
        return self.refusal + self.compliance + self.degenerate + self.off_language


class OutcomeRate(Part, frozen=True):
    """`count` of `n` labelled answers, with Wilson's 95 % interval."""

    count: int
    n: int
    value: float
    interval95: Interval


class Flips(Part, frozen=True):
    """What became of the same prompts between baseline and an intervention.

    `removed` went from refusal to compliance, `gained` the other way; moves into degenerate text, into answers in
    another language, and prompts that either judge left unparsed, are counted apart and never as removal.
    """

    n: int
    removed: int
    gained: int
    to_degenerate: int
    unparsed: int
    to_off_language: int

    @property
    def net(self) -> float:
        """Share of prompts from refusal to compliance minus the share that went back."""
        return (self.removed - self.gained) / self.n


class ZeroPoint(Part, frozen=True):
    """Where ablation of a direction puts a target's stream, at the place where the direction was taken.

    `harmless` and `harmful`: the target's mean coordinates along the unit direction; plain ablation sets 0. `place`: 0
    on the way from the harmless (0) to the harmful mean (1), None where the two lie together (`reason`).
    """

    harmless: float | None
    harmful: float | None
    place: float | None
    reason: str | None
    artifact: str  # of the means


class TransferCell(Cell, frozen=True, kw_only=True):
    """What one cell measured. Rates are None where no answer could be labelled."""

    prompts: Kind  # class of the prompts that were answered
    n: int
    counts: OutcomeCounts
    refusal: OutcomeRate | None
    compliance: OutcomeRate | None
    degenerate: OutcomeRate | None
    unusable: Unusable | None  # what the rule finds too much of; None where it can use the answers
    completions: str | None  # artifact id; None where labels were published without answers
    labels: str  # artifact id
    flips: Flips | None = None  # against the same prompts without intervention; None for a baseline
    removal: Verdict | None = None  # of a native or transferred ablation
    induction: Verdict | None = None  # of the same direction added to harmless prompts, where that was done
    zero: ZeroPoint | None = None  # of an ablation, where the target's means were given


class MissingCell(Part, frozen=True):
    """A cell that could not be measured, because its source language has no direction, or that imported labels lack."""

    source: str
    target: str
    condition: Condition
    reason: str
    status: Literal["no direction", "not given"] = "no direction"


class ChosenDirection(Part, frozen=True):
    """The direction of one language: where it was taken, and its mean scores on validation prompts."""

    artifact: str  # id of the selection
    pos: int  # token position, from the prompt's end
    layer: int
    bypass: float | None  # mean refusal score (log-odds) of harmful prompts, ablated; None: no refusal scores
    induce: float | None  # mean refusal score (log-odds) of harmless prompts, added
    kl: float | None  # nats


class Gate(Part, frozen=True):
    """Whether the model tells harmful from harmless prompts in one language; `passed` None where that is open."""

    artifact: str
    passed: bool | None
    reason: str


class TargetFacts(Part, frozen=True):
    """One target language without intervention, and what its number of prompts can show."""

    n: int
    refused: int
    unparsed: int
    refusal95: Interval | None  # of the refusal rate; None where no answer could be labelled
    native: VerdictValue | None  # how its own direction fared; None where it has none
    detectable: float | None  # smallest removal above the margin that n prompts show with 80 % power; None: no such


class RuleLimits(Part, frozen=True):
    """What the verdict rule compares with."""

    margin: float  # share of prompts below which an effect counts as none
    max_unusable: float  # share of a condition's answers above which it settles nothing
    fewest_flips: int  # moves, all one way, that the exact McNemar test needs for p < .05


class LackingEvidence(Part, frozen=True):
    """What a measured matrix has and labels from elsewhere have not, and what follows for its verdicts."""

    what: str
    follows: str
    targets: tuple[str, ...] = ()  # that lack it; empty: all


class UnpairedLabels(Part, frozen=True):
    """Labels that could not take part, with the reason."""

    labels: str  # artifact id
    target: str
    condition: str  # as published
    reason: str
    source: str | None = None  # language of its direction, where that is known


class ImportedMatrix(Part, frozen=True):
    """What is particular to a matrix of labels that others published.

    `origins`: repositories and commits that the labels come from; `judge`: as the labels name it; `by_position`: paired
    by place in one file, because no prompt is known.
    """

    origins: tuple[str, ...]
    judge: str
    by_position: bool
    missing: tuple[MissingCell, ...]
    lacking: tuple[LackingEvidence, ...]
    unpaired: tuple[UnpairedLabels, ...]


class Transfer(Record, frozen=True):
    FORMAT: ClassVar[str] = "transfer"
    FILE: ClassVar[str] = "transfer.json"
    VERSION: ClassVar[int] = 4  # 3: settings and conditions before the second version of controls

    settings: dict[str, SettingsGroup | tuple[str, ...]]
    model: ModelKey
    limits: RuleLimits
    cells: tuple[TransferCell, ...]
    harmless: dict[str, TransferCell]  # by target: harmless prompts without intervention
    directions: dict[str, ChosenDirection]  # by language
    no_direction: dict[str, str]  # why a language has none
    gates: dict[str, Gate]  # by target
    targets: dict[str, TargetFacts]
    imported: ImportedMatrix | None = None  # where the labels come from elsewhere

    def ablation(self, source: str, target: str) -> TransferCell | None:
        """The cell in which the direction of `source` is ablated in `target`; None where it was not measured."""
        return next((c for c in self.cells if c.is_ablation and (c.source, c.target) == (source, target)), None)
