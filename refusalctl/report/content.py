"""All that a report shows of one transfer: its record, arranged, and what its artifacts say beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from refusalctl.records.rows import Kind
from refusalctl.records.selection import SelectionLimits, Stability
from refusalctl.records.transfer import Gate, ImportedMatrix, MissingCell, ModelKey, RuleLimits, Transfer, TransferCell
from refusalctl.settings import Settings
from refusalctl.store.references import short_revision
from refusalctl.store.store import Artifact

Row = TransferCell | MissingCell


def told_apart(models: Sequence[ModelKey]) -> list[str]:
    """What a page calls each of its models: the name, with the short revision where another model of that name has
    another one (two folders of one name, two checkpoints), with the dtype where only that differs, and with the system
    prompt where only that does."""
    names = [str(model["name"]) for model in models]
    marks: tuple[Callable[[ModelKey], str], ...] = (
        lambda model: f"@{short_revision(str(model['revision']))}",
        lambda model: f" ({model['dtype']})",
        lambda model: f" ({_system_words(model.get('system'))})",
    )
    for mark in marks:
        found: dict[str, set[str]] = {}
        for name, model in zip(names, models, strict=True):
            found.setdefault(name, set()).add(mark(model))
        names = [
            name + mark(model) if len(found[name]) > 1 else name for name, model in zip(names, models, strict=True)
        ]
    return names


def _system_words(system: str | bool | None) -> str:
    if system is None:
        return "own system prompt"
    return f"system: {shortened(str(system))}" if system else "no system prompt"


def shortened(text: str, most: int = 24) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}\u2026"


class CandidateRow(NamedTuple):
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


class KeptPrompts(NamedTuple):
    kept: int
    n: int


@dataclass(frozen=True)
class Choice:
    """The direction chosen in one language, among all candidates."""

    lang: str
    artifact: str
    rule: SelectionLimits
    kept: Mapping[Kind, KeptPrompts]
    stability: Stability | None  # None: nothing could be resampled
    candidates: tuple[CandidateRow, ...]
    shortened: str = ""  # what a search left out

    @property
    def winner(self) -> CandidateRow:
        return next(c for c in self.candidates if c.chosen)

    @property
    def positions(self) -> list[int]:
        return sorted({c.pos for c in self.candidates})

    @property
    def layers(self) -> list[int]:
        return sorted({c.layer for c in self.candidates})

    def token(self, pos: int) -> str:
        return next(c.token for c in self.candidates if c.pos == pos)


class DrawnPrompts(NamedTuple):
    """How many prompts of one language, split and class took part, and the artifact that holds them."""

    n: int
    artifact: str


class ControlDrops(NamedTuple):
    """What control directions of one cell do to the mean refusal score (log-odds), beside the real direction.

    `kl`: nats that the real direction makes on harmless prompts; `most`: the largest drop of a draw; `matching`: what
    was matched, in words.
    """

    source: str
    target: str
    artifact: str
    drop: float
    kl: float
    most: float
    matching: str
    p: float


@dataclass(frozen=True)
class Content:
    """All that the page, the figures and the tables show of one transfer.

    `conditions` holds, per target, its baseline, transferred and native ablation; `others` the control directions and
    additions. `label` is what the page calls the model, `truth` what it was made to do, where that is known.
    """

    transfer: str
    record: Transfer
    settings: Settings
    conditions: tuple[Row, ...]
    others: tuple[TransferCell, ...]
    choices: Mapping[str, Choice]
    drawn: Mapping[tuple[str, str, str], DrawnPrompts]
    same_prompts: bool
    nulls: tuple[ControlDrops, ...]
    sources: tuple[Artifact, ...] = field(repr=False, default=())
    label: str = ""
    truth: str | None = None

    @property
    def model(self) -> ModelKey:
        return self.record.model

    @property
    def imported(self) -> ImportedMatrix | None:
        """What is particular to labels that others published; None for what was measured here."""
        return self.record.imported

    @property
    def limits(self) -> RuleLimits:
        return self.record.limits

    @property
    def harmless(self) -> Mapping[str, TransferCell]:
        """By target: harmless prompts without intervention."""
        return self.record.harmless

    @property
    def no_direction(self) -> Mapping[str, str]:
        return self.record.no_direction

    @property
    def gates(self) -> Mapping[str, Gate]:
        return self.record.gates

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row of every table."""
        return (*self.conditions, *self.harmless.values(), *self.others)

    @property
    def own(self) -> bool:
        """Whether a target is no source, so that its own direction needs a row of its own."""
        return any(t not in self.settings.sources for t in self.targets)

    def cell(self, source: str | None, target: str) -> Row | None:
        return next((c for c in self.of(target) if c.source == source), None)

    @property
    def targets(self) -> list[str]:
        return list(self.settings.targets)

    @property
    def languages(self) -> list[str]:
        """Sources, then targets, in the experiment's order."""
        return list(dict.fromkeys((*self.settings.sources, *self.settings.targets)))

    @property
    def sizes(self) -> dict[int, list[TransferCell]]:
        """Baselines by their number of prompts."""
        found: dict[int, list[TransferCell]] = {}
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

    def of(self, target: str) -> list[Row]:
        """Baseline, transferred and native of one target, in this order."""
        return [c for c in self.conditions if c.target == target]

    def baseline(self, target: str) -> TransferCell:
        found = self.of(target)[0]
        assert isinstance(found, TransferCell)
        return found

    def changed(self, target: str) -> list[Row]:
        return self.of(target)[1:]


def _listed(numbers: list[int]) -> str:
    """`0 to 5` for a run without gaps, every number otherwise."""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
