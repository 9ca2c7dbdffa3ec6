"""Plain rows that a report shows: conditions, choices, and what can be said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from refusalctl.data.languages import name as language_name
from refusalctl.stats.rates import Flips, Rate
from refusalctl.store.store import Artifact

REMOVABLE = 0.20  # two margins of the verdict rule: fewer points to remove than this settle nothing
SPOILED = 0.20  # share of degenerate or unparsed answers above which a condition settles nothing
_NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Condition:
    """One target language under one condition, counted; `flips` are against the same prompts' baseline."""

    target: str
    source: str | None
    condition: str
    prompts: str
    n: int
    counts: Mapping[str, int]
    labels: str
    completions: str
    flips: Flips | None = None

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
    """Mean scores of one candidate, and whether the rule's thresholds let it pass. `share` None: not recorded."""

    pos: int
    token: str
    layer: int
    bypass: float
    induce: float
    kl: float
    passes: bool
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


@dataclass(frozen=True)
class Content:
    """All that the page, the figures and the tables show, as plain rows."""

    transfer: str
    experiment: Mapping[str, Any]
    model: Mapping[str, Any]
    conditions: tuple[Condition | Missing, ...]
    harmless: Mapping[str, Condition]
    choices: Mapping[str, Choice]
    no_direction: Mapping[str, str]
    drawn: Mapping[tuple[str, str, str], Drawn]
    same_prompts: bool
    sources: tuple[Artifact, ...] = field(repr=False, default=())

    @property
    def targets(self) -> list[str]:
        return list(self.experiment["targets"])

    @property
    def languages(self) -> list[str]:
        """Sources, then targets, in the experiment's order."""
        return list(dict.fromkeys((*self.experiment["sources"], *self.experiment["targets"])))

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


def label(lang: str) -> str:
    """`Bashkir (ba)`, or the code alone for a language without a known name."""
    name = language_name(lang)
    return lang if name == lang else f"{name} ({lang})"


def obstacles(rows: Content, row: Condition) -> list[str]:
    """Reasons why a condition tells nothing about its direction, in words; none where it does."""
    base = rows.baseline(row.target)
    rate, found = base.rate("refusal"), []
    if rate is None:
        found.append("no baseline answer could be labelled")
    elif rate.wilson().high < REMOVABLE:
        found.append(
            f"the baseline refuses too little: at most {percent(rate.wilson().high)} (upper 95 % limit), "
            f"so there are fewer than {REMOVABLE * 100:.0f} points to remove"
        )
    for which, each in (("baseline", base), ("changed", row)):
        if (which == "baseline" or each is not base) and each.spoiled > SPOILED:
            what = "baseline answers" if which == "baseline" else "answers under this direction"
            found.append(f"{percent(each.spoiled)} of the {what} are degenerate or unparsed")
    return found


def percent(value: float) -> str:
    """Whole percent; never 0 % or 100 % for a share that is not."""
    if 0 < value < 0.005:
        return f"< 1{_NBSP}%"
    if 0.995 < value < 1:
        return f"> 99{_NBSP}%"
    return f"{value * 100:.0f}{_NBSP}%"
