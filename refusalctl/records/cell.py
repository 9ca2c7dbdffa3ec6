"""Which direction in which language: the name of one measurement of a transfer."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from refusalctl.records.record import Part

ControlFamily = Literal["within_class"]
Condition = Literal["baseline", "native", "transferred", "affine", "induced"] | ControlFamily


class LanguagePair(NamedTuple):
    """A direction's language and the language that it is applied in; `en>de` as text."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}>{self.target}"

    @classmethod
    def parse(cls, text: str) -> Self:
        source, _, target = text.partition(">")
        return cls(source, target)

    @property
    def is_native(self) -> bool:
        return self.source == self.target


class Cell(Part, frozen=True):
    """One target language under one condition.

    On harmful prompts: `baseline` (no source), `native` (source = target) or `transferred`, by ablation, and control
    directions of the source (`within_class`), one `draw` of them ablated; `affine`, where ablation
    would leave the stream on the harmful side, keeps the target's own harmless mean instead. On harmless prompts:
    `induced`, where `coeff` times the source's direction is added.
    """

    source: str | None
    target: str
    condition: Condition
    coeff: float | None = None
    is_extra_dose: bool = False  # a dose beside the one that the verdict is about
    draw: int | None = None  # which draw of a family of control directions

    @property
    def key(self) -> str:
        """The cell's name among a transfer's inputs; `en>de` for an ablation, `baseline>de` without a direction."""
        where = f"{self.source or 'baseline'}>{self.target}"
        if self.draw is not None:
            return f"{self.condition}#{self.draw}:{where}"
        if self.condition == "induced":
            return f"induced{f'@{self.coeff:g}' if self.is_extra_dose else ''}:{where}"
        return f"affine:{where}" if self.condition == "affine" else where

    @property
    def pair(self) -> LanguagePair | None:
        """Source and target of a direction; None for a baseline."""
        return LanguagePair(self.source, self.target) if self.source is not None else None

    @property
    def is_ablation(self) -> bool:
        """Whether a chosen direction is ablated, so that the cell belongs to the matrix."""
        return self.condition in ("native", "transferred")
