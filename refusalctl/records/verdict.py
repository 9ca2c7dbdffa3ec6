"""The verdict on one cell of a transfer: what was decided, and the numbers that it rests on."""

from __future__ import annotations

from typing import Literal, get_args

from refusalctl.records.estimates import Estimate, Interval
from refusalctl.records.record import Part

VerdictValue = Literal["transfers", "does not transfer", "reverses", "inconclusive", "uninformative"]
UnusableOutcome = Literal["degenerate", "off-language", "unparsed"]
VERDICTS: tuple[VerdictValue, ...] = get_args(VerdictValue)


class Verdict(Part, frozen=True):
    """`removed` is the net share of prompts that moved (induced, for induction), with its 95 % and 90 % intervals.

    `least` and `most` are `removed` with every missing label resolved against, or for, the claim. `lost` counts prompts
    that had the effect's origin (refusal, for removal) and became anything else: also degenerate, or another language.
    `limits95` and `limits90` are what the rule compares with the margin, one prompt further out: the lower 95 % limit
    of `least` and the upper one of `most`, and 90 % limits in which every lost origin may be a move. `headroom` is the
    upper 95 % limit of what could have moved, `headroom95` the interval, `headroom_back95` that of what could have
    moved back. `n_needed`: prompts at which the same shares would settle an inconclusive cell with 80 % power, None
    where none would or prompts are not what is missing. `ratio_to_native`: removed relative to the target's own
    direction, None where that one does not work or was not given.
    """

    value: VerdictValue
    reason: str
    removed: float
    interval95: Interval
    interval90: Interval
    headroom: float
    n: int
    n_needed: int | None = None
    p_null: float | None = None  # adjusted, that control directions do as much; None: no controls were run
    limits95: Interval | None = None
    limits90: Interval | None = None
    headroom95: Interval | None = None
    ratio_to_native: Estimate | None = None
    least: float | None = None
    most: float | None = None
    lost: int | None = None
    headroom_back95: Interval | None = None
    p_reverse: float | None = None  # adjusted, that control directions do as much in the opposite sense
    smallest_p: float | None = None  # the least p that so many control directions can give
    # what `transfer` adds, which sees the whole matrix
    native: VerdictValue | None = None  # the verdict of the target's own direction; None for that direction itself
    p_mcnemar: float | None = None  # exact, two-sided, that as many prompts moved forth as back
    q_mcnemar: float | None = None  # the same over all cells, Benjamini and Yekutieli
    p_equivalence: float | None = None  # that the effect lies inside the margin; None where prompts repeat
    beyond_home: Estimate | None = None  # removed here minus removed in the direction's own language


class Unusable(Part, frozen=True):
    """The kinds of answers of which a condition holds more than the rule allows, and their share of all answers."""

    kinds: tuple[UnusableOutcome, ...]
    share: float
