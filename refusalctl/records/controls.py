"""`controls.json`: what directions that should do nothing do to refusals in one cell, beside the real direction."""

from __future__ import annotations

from typing import ClassVar

from refusalctl.records.record import Part, Record


class CosineSize(Part, frozen=True):
    """|cosine| of a family's draws to the real direction."""

    mean: float
    max: float


class FamilyDrops(Part, frozen=True):
    """One family of control directions: by how much each draw lowers the refusal score (log-odds), and p."""

    n: int
    drops: tuple[float, ...]
    p: float  # that the real direction lowers it no more than these do
    p_reverse: float  # that it raises it no more
    abs_cosine: CosineSize


class FamilyRises(Part, frozen=True):
    """One family, added: by how much each draw raises the refusal score (log-odds) of harmless prompts, and p."""

    n: int
    rises: tuple[float, ...]
    p: float
    p_reverse: float


class AddedControls(Part, frozen=True):
    """The same draws added to harmless prompts at the direction's layer and length, as often as the verdict's dose."""

    coeff: float
    rise: float  # of the mean refusal score (log-odds) under the real direction
    baseline: float
    n_prompts: int
    families: dict[str, FamilyRises]


class ShuffledSelection(Part, frozen=True):
    """How the directions of shuffled labels were chosen: the candidates searched, and each draw's place."""

    searched: int
    candidates: int
    passed_rule: int
    chosen: tuple[tuple[int, int], ...]  # position, layer
    plain_cosine: tuple[float, ...]  # |cosine| to the real direction before its part was taken out
    prompt_passes: int


class Controls(Record, frozen=True):
    """`drop`: of the target's mean refusal score (log-odds) under the real direction; `baseline`: that score without.

    `p` is the largest of the families in `p_families`, of this cell alone: shuffled labels, searched like the direction
    itself, and covariance-matched draws. Isotropic draws are too easy to beat, and a language direction is one value,
    no distribution: both are shown and neither decides.
    """

    FORMAT: ClassVar[str] = "controls"
    FILE: ClassVar[str] = "controls.json"
    VERSION: ClassVar[int] = 3  # 2: without the other tail, addition and rank

    source: str
    target: str
    drop: float
    baseline: float
    families: dict[str, FamilyDrops]
    p: float
    p_reverse: float  # the same for the opposite tail
    p_families: tuple[str, ...]
    smallest_p: float  # that these draws can give
    rank: int  # of the ablations that were compared
    n_prompts: int
    n_val: int
    prompt_passes: int
    selection_of_shuffled: ShuffledSelection
    languages: tuple[str, ...]  # of the language directions
    added: AddedControls | None = None
    not_added: str | None = None  # why nothing was added; None: it was, or was not asked for
