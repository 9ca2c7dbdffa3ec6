"""Plain rows that a report shows: conditions, choices, and what can be said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from refusalctl.settings import Settings
from refusalctl.stats.rates import Flips, Interval, Rate
from refusalctl.store.store import Artifact

REMOVABLE = 0.20  # two margins of the verdict rule: fewer points to remove than this settle nothing
SPOILED = 0.20  # share of degenerate or unparsed answers above which a condition settles nothing


class Verdict(NamedTuple):
    """One of `VERDICTS` with its reason. `removed`: share of prompts, with limits; None where nothing was estimated."""

    value: str
    reason: str
    removed: float | None
    interval95: Interval | None
    interval90: Interval | None
    n_needed: int | None
    p_null: float | None


@dataclass(frozen=True)
class Condition:
    """One target language under one condition, counted; `flips` are against the same prompts' baseline.

    `verdict` speaks of refusals removed, `induction` of refusals induced on harmless prompts; both are None in a
    transfer of a version that computed none. `detail` tells conditions of one source and name apart (a dose, a seed).
    """

    target: str
    source: str | None
    condition: str
    prompts: str
    n: int
    counts: Mapping[str, int]
    labels: str
    completions: str
    flips: Flips | None = None
    verdict: Verdict | None = None
    induction: Verdict | None = None
    detail: str = ""

    def count(self, outcome: str) -> int:
        return self.counts.get(outcome, 0)

    def rate(self, outcome: str) -> Rate | None:
        """Share among labelled completions; None where none is labelled."""
        unparsed = self.count("unparsed")
        return Rate(self.count(outcome), self.n - unparsed, unparsed) if self.n > unparsed else None

    @property
    def spoiled(self) -> float:
        """Share of all completions that are degenerate or unparsed."""
        return (self.count("degenerate") + self.count("unparsed")) / self.n


@dataclass(frozen=True)
class Missing:
    """A condition that could not be measured, because its source language has no direction."""

    target: str
    source: str
    condition: str
    reason: str


class Scored(NamedTuple):
    """Mean scores of one candidate, NaN where it was not scored, and whether the rule's thresholds let it pass.

    `passes` None: not known. `share` None: not recorded.
    """

    pos: int
    token: str
    layer: int
    bypass: float
    induce: float
    kl: float
    passes: bool | None
    chosen: bool
    share: float | None


class Kept(NamedTuple):
    kept: int
    n: int


@dataclass(frozen=True)
class Choice:
    """The direction chosen in one language, among all candidates."""

    lang: str
    artifact: str
    rule: Mapping[str, Any]
    kept: Mapping[str, Kept]
    resamples: int
    none: float
    candidates: tuple[Scored, ...]
    shortened: str = ""  # what a search left out

    @property
    def winner(self) -> Scored:
        return next(c for c in self.candidates if c.chosen)

    @property
    def positions(self) -> list[int]:
        return sorted({c.pos for c in self.candidates})

    @property
    def layers(self) -> list[int]:
        return sorted({c.layer for c in self.candidates})

    def token(self, pos: int) -> str:
        return next(c.token for c in self.candidates if c.pos == pos)


class Drawn(NamedTuple):
    """How many prompts of one language, split and class took part, and the artifact that holds them."""

    n: int
    artifact: str


class Null(NamedTuple):
    """What control directions of one cell do to the mean refusal score (log-odds), beside the real direction.

    `families`: name to (number of draws, largest drop, p).
    """

    source: str
    target: str
    artifact: str
    drop: float
    families: Mapping[str, tuple[int, float, float]]
    p: float


@dataclass(frozen=True)
class Content:
    """All that the page, the figures and the tables show, as plain rows."""

    transfer: str
    settings: Settings
    model: Mapping[str, Any]
    conditions: tuple[Condition | Missing, ...]
    harmless: Mapping[str, Condition]
    choices: Mapping[str, Choice]
    no_direction: Mapping[str, str]
    drawn: Mapping[tuple[str, str, str], Drawn]
    same_prompts: bool
    sources: tuple[Artifact, ...] = field(repr=False, default=())
    others: tuple[Condition, ...] = ()
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    nulls: tuple[Null, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether the transfer carries verdicts."""
        return any(isinstance(c, Condition) and c.verdict is not None for c in self.conditions)

    @property
    def own(self) -> bool:
        """Whether a target is no source, so that its own direction needs a row of its own."""
        return any(t not in self.settings.sources for t in self.targets)

    def cell(self, source: str | None, target: str) -> Condition | Missing | None:
        return next((c for c in self.of(target) if c.source == source), None)

    @property
    def targets(self) -> list[str]:
        return list(self.settings.targets)

    @property
    def languages(self) -> list[str]:
        """Sources, then targets, in the experiment's order."""
        return list(dict.fromkeys((*self.settings.sources, *self.settings.targets)))

    @property
    def sizes(self) -> dict[int, list[Condition]]:
        """Baselines by their number of prompts."""
        found: dict[int, list[Condition]] = {}
        for target in self.targets:
            found.setdefault(self.baseline(target).n, []).append(self.baseline(target))
        return found

    @property
    def grids(self) -> dict[str, list[Choice]]:
        """Selections by the positions and layers that were tried, in words."""
        found: dict[str, list[Choice]] = {}
        for each in self.choices.values():
            grid = f"positions {_listed(each.positions)}, layers {_listed(each.layers)}"
            found.setdefault(grid, []).append(each)
        return found

    def of(self, target: str) -> list[Condition | Missing]:
        """Baseline, transferred and native of one target, in this order."""
        return [c for c in self.conditions if c.target == target]

    def baseline(self, target: str) -> Condition:
        found = self.of(target)[0]
        assert isinstance(found, Condition)
        return found

    def changed(self, target: str) -> list[Condition | Missing]:
        return self.of(target)[1:]


def _listed(numbers: list[int]) -> str:
    """`0 to 5` for a run without gaps, every number otherwise."""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
