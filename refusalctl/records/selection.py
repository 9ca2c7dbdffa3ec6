"""`scores.json` and `cosmic.json`: the scores of every candidate direction, and which one was chosen by them.

Positions are negative, from the prompt's end; layers count from 0. Bypass and induce are refusal scores (log-odds), KL
is in nats. None: not measured.
"""

from __future__ import annotations

from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

import msgspec

from refusalctl.records.record import Part, Record
from refusalctl.records.rows import Kind

T = TypeVar("T")
Search = Literal["full", "prune", "screen"]


class Candidate(NamedTuple):
    """The place of a candidate direction."""

    pos: int
    layer: int


class ByClass(Part, Generic[T], frozen=True):
    """One value for each class of prompts."""

    harmful: T
    harmless: T

    def of(self, kind: Kind) -> T:
        return self.harmful if kind == "harmful" else self.harmless


class SelectionLimits(Part, frozen=True):
    """The limits that a candidate must keep to be chosen; `stats.selection_rule.Rule` applies them.

    `max_layer_share`: layer < floor(share * n_layers). `max_kl` or `min_induce` None switches that test
    off.
    """

    name: str
    max_kl: float | None
    min_induce: float | None
    max_layer_share: float

    def params(self) -> dict[str, str | float | None]:
        """As recipes hold it."""
        return msgspec.structs.asdict(self)


# --- candidates by refusal scores -----------------------------------------------------------------------


class PromptScores(Part, frozen=True):
    """Scores of one candidate prompt by prompt, in the order of the prompts kept."""

    bypass: tuple[float, ...] | None  # harmful prompts, the direction ablated
    induce: tuple[float, ...] | None  # harmless prompts, the direction added
    kl: tuple[float, ...] | None  # harmless prompts, the direction ablated


class ScoreEstimate(Part, frozen=True):
    """First-order means of a candidate's scores; of KL, which has no first order, the second."""

    bypass: float
    induce: float
    kl: float


class ScoredCandidate(Part, frozen=True):
    """Mean scores of one candidate. `per_prompt` None: only means are known; `estimate`: by a screening alone."""

    pos: int
    layer: int
    bypass: float | None
    induce: float | None
    kl: float | None
    per_prompt: PromptScores | None
    estimate: ScoreEstimate | None = None

    @property
    def place(self) -> Candidate:
        return Candidate(self.pos, self.layer)

    @property
    def is_complete(self) -> bool:
        """Whether it has all three scores."""
        return None not in (self.bypass, self.induce, self.kl)

    def means(self) -> tuple[float, float, float]:
        """Bypass, induce and KL of a complete candidate."""
        assert self.bypass is not None
        assert self.induce is not None
        assert self.kl is not None
        return self.bypass, self.induce, self.kl


class ValidationPrompts(Part, frozen=True):
    """The prompts that candidates are scored on.

    `baseline`: refusal score of each without intervention, None where the language has no refusal openings. `kept`:
    indices of those that count; with `filtered`, only prompts that the model treats as their class says.
    """

    n: ByClass[int]
    filtered: bool
    baseline: ByClass[tuple[float, ...]] | None
    kept: ByClass[tuple[int, ...]]


class ScoreTable(Record, frozen=True, kw_only=True):
    """Scores of every candidate of one language.

    `flat`: places where both classes have the same mean, so that there is no direction to score; `unscored`: candidates
    whose published scores are no numbers. `untold` says why what is None here is not known, and is None where nothing
    is missing.
    """

    FORMAT: ClassVar[str] = "scores"
    FILE: ClassVar[str] = "scores.json"

    n_layers: int
    positions: tuple[int, ...]
    suffix_tokens: tuple[str, ...] | None
    validation: ValidationPrompts | None
    search: Search | None
    flat: tuple[Candidate, ...] | None
    unscored: tuple[Candidate, ...]
    candidates: tuple[ScoredCandidate, ...]
    untold: str | None

    @property
    def complete(self) -> tuple[ScoredCandidate, ...]:
        """Candidates that have all three scores."""
        return tuple(each for each in self.candidates if each.is_complete)

    def at(self, place: tuple[int, int]) -> ScoredCandidate | None:
        return next((each for each in self.candidates if each.place == place), None)


# --- candidates by COSMIC -------------------------------------------------------------------------------


class CosmicCandidate(Part, frozen=True):
    """One candidate without refusal tokens: cosines of mean streams, and KL over all validation prompts.

    `comply`: of harmful prompts ablated with harmless ones; `refuse`: of harmless prompts added to with harmful ones.
    """

    pos: int
    layer: int
    comply: float
    refuse: float
    kl: float

    @property
    def place(self) -> Candidate:
        return Candidate(self.pos, self.layer)

    @property
    def score(self) -> float:
        return self.comply + self.refuse


class CosmicTable(Record, frozen=True):
    """`layers`: where the streams of `n` validation prompts are compared."""

    FORMAT: ClassVar[str] = "cosmic"
    FILE: ClassVar[str] = "cosmic.json"

    layers: tuple[int, ...]
    n: ByClass[int]
    candidates: tuple[CosmicCandidate, ...]


# --- the choice -----------------------------------------------------------------------------------------


class Stability(Part, frozen=True):
    """How often candidates win when the validation prompts are resampled.

    `winners`: the ten most frequent by `position,layer`, as shares; `none`: share of resamples in which no candidate
    passes the rule.
    """

    LISTED: ClassVar[int] = 10

    resamples: int
    winners: dict[str, float]
    none: float

    def share(self, place: tuple[int, int]) -> float | None:
        """How often this candidate wins; None where it is not listed and the list is full, so that nobody knows."""
        unlisted = None if len(self.winners) >= self.LISTED else 0.0
        return self.winners.get(f"{place[0]},{place[1]}", unlisted)


class SplitHalf(Part, frozen=True):
    """How much of a direction is its own train prompts. None where there is no direction, or its halves share none.

    `half`: mean cosine between directions from random halves. `full`: the same for all prompts (Spearman and Brown).
    `ceiling`: its root, the expected cosine to the direction of infinitely many prompts, and so the most that its
    cosine to anything else can be expected to reach. `splits` 0: imported, and nothing is known of the halves.
    """

    half: float | None
    full: float | None
    ceiling: float | None
    splits: int


class ChosenByScore(Part, frozen=True):
    """What the rule chooses by refusal scores."""

    pos: int
    layer: int
    bypass: float
    induce: float
    kl: float


class Choices(Part, frozen=True):
    """Both criteria's choices side by side, and the cosine of the two directions. None: chooses nothing."""

    refusal_score: ChosenByScore | None
    cosmic: CosmicCandidate | None
    cosine: float | None


class SelectionScores(ScoreTable, frozen=True, kw_only=True):
    """The table that a direction was chosen from, and how.

    `rule` and `choices` are None for a published choice, and `reliability` where the train prompts of an imported
    direction are not known. `stability` is None where nothing could be resampled, and `unsteady` then says why.
    """

    FORMAT: ClassVar[str] = "selection"

    criterion: Literal["refusal-score", "cosmic", "published"]
    rule: SelectionLimits | None
    stability: Stability | None
    unsteady: str | None
    reliability: SplitHalf | None
    choices: Choices | None
