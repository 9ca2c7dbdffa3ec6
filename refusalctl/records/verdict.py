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

    `limits95` and `limits90` are what the rule compares with the margin: one prompt further out, and with every missing
    label counted against the claim that nothing moved. `headroom` is the upper 95 % limit of what could have moved,
    `headroom95` the interval. `n_needed`: prompts at which the same shares would settle an inconclusive cell, None
    where none would or nothing is open. `ratio_to_native`: removed relative to the target's own direction, None where
    that one does not work or was not given.
    """

    value: VerdictValue
    reason: str
    removed: float
    interval95: Interval
    interval90: Interval
    headroom: float
    n: int
    n_needed: int | None = None
    p_null: float | None = None  # Holm-adjusted, against control directions; None: no controls were run
    limits95: Interval | None = None
    limits90: Interval | None = None
    headroom95: Interval | None = None
    ratio_to_native: Estimate | None = None
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
