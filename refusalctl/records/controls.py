"""`controls.json`: what other directions of the stream do to refusals in one cell, beside the real direction."""

from __future__ import annotations

from typing import ClassVar

from refusalctl.records.record import Part, Record

MATCHED = 0.9  # share of the KL limit from which on a draw is matched: its effect is some 5 % below that at the limit


class CosineSize(Part, frozen=True):
    """|cosine| of draws to the real direction."""

    mean: float
    max: float


class ControlDraw(Part, frozen=True):
    """One draw: the strength at which it is ablated, the KL (nats) that it makes there, and by how much it lowers the
    refusal score (log-odds) then."""

    strength: float
    kl: float
    drop: float


class AddedControls(Part, frozen=True):
    """The same draws added to harmless prompts, each at its own place's layer and the real candidate's length there, as
    often as the verdict's dose."""

    coeff: float
    rise: float  # of the mean refusal score (log-odds) under the real direction
    baseline: float
    n_prompts: int
    rises: tuple[float, ...]
    p: float
    p_reverse: float


class Controls(Record, frozen=True):
    """`drop`: of the target's mean refusal score (log-odds) under the real direction; `baseline`: that score without.

    All on test prompts, which chose nothing: `n_prompts` harmful ones whose refusal score is above 0, `n_harmless` for
    KL, whose score is below 0. `kl` (nats, next token) is the real direction's, `kl_limit` what a draw may reach. `p`
    is of this cell alone.
    """

    FORMAT: ClassVar[str] = "controls"
    FILE: ClassVar[str] = "controls.json"
    VERSION: ClassVar[int] = 6  # 3: families on validation prompts, no limit on damage; 5: KL of refused prompts too

    source: str
    target: str
    drop: float
    baseline: float
    kl: float
    kl_limit: float
    draws: tuple[ControlDraw, ...]
    p: float  # that the real direction lowers the score no more than the draws do
    p_reverse: float  # the same for the opposite tail
    smallest_p: float  # that so many draws can give
    abs_cosine: CosineSize
    rank: int  # of the ablations that were compared
    n_prompts: int
    n_harmless: int
    searched: int  # places of every draw that were scored, the best to first order
    candidates: int  # places that every draw was searched over, as the direction was
    n_scored: int  # prompts of both classes looked at until enough were fit
    prompt_passes: int
    added: AddedControls | None = None  # None: not asked for

    @property
    def n_whole(self) -> int:
        """Draws at full strength; the others were brought to the limit by partial ablation."""
        return sum(each.strength == 1.0 for each in self.draws)

    @property
    def matching(self) -> str:
        """What was matched, and how many were drawn, in words."""
        partial = len(self.draws) - self.n_whole
        where = f"searched over {self.candidates} places"
        where += f" ({self.searched} scored, the best to first order)" if self.searched < self.candidates else ""
        told = f"{len(self.draws)} draws, {where}, matched to KL {self.kl_limit:.2g} in {self.target}"
        told += f"; {self.n_whole} at full strength" + (f", {partial} by partial ablation" if partial else "")
        weaker = sum(each.strength < 1.0 and each.kl < MATCHED * self.kl_limit for each in self.draws)
        return told + (f" ({weaker} of these below {MATCHED:.0%} of it)" if weaker else "")
