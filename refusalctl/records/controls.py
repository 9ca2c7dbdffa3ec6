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
    p: float  # that the real direction does as little
    abs_cosine: CosineSize


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

    `p` is the largest of the families in `p_families`: shuffled labels, searched like the direction itself, and
    covariance-matched draws. Isotropic draws are too easy to beat, and a language direction is one value, no
    distribution: both are shown and neither decides.
    """

    FORMAT: ClassVar[str] = "controls"
    FILE: ClassVar[str] = "controls.json"

    source: str
    target: str
    drop: float
    baseline: float
    families: dict[str, FamilyDrops]
    p: float
    p_families: tuple[str, ...]
    smallest_p: float  # that these draws can give
    n_prompts: int
    n_val: int
    prompt_passes: int
    selection_of_shuffled: ShuffledSelection
    languages: tuple[str, ...]  # of the language directions
