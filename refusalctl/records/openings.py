"""`openings.json`: how refusals open in one language, and whether that was confirmed on other prompts."""

from __future__ import annotations

from typing import ClassVar, Literal

from refusalctl.records.estimates import Auroc
from refusalctl.records.record import Part, Record


class OpeningValidation(Part, frozen=True):
    """How the refusal score of some openings ranks judged refusals on validation prompts.

    `auroc` None when there are too few of either (`reason`). `covered` of the `refusals` open with one of the
    openings, `false` of the `others` do.
    """

    judge: str
    refusals: int
    others: int
    left_out: int
    covered: int
    false: int
    auroc: Auroc | None = None
    reason: str | None = None
    style_auroc: float | None = None  # of prompt class on train answers, where style was the judge


class Openings(Record, frozen=True):
    """`sequences` of token ids, none the beginning of another.

    Where they were derived: how many judged refusals each opens, the share of refusals that open with one (`coverage`)
    and of the other answers that do (`false_share`). None where they were given.
    """

    FORMAT: ClassVar[str] = "openings"
    FILE: ClassVar[str] = "openings.json"

    sequences: tuple[tuple[int, ...], ...]
    origin: Literal["derived", "given"]
    validation: OpeningValidation
    counts: tuple[int, ...] | None = None
    n_refusals: int | None = None
    n_others: int | None = None
    coverage: float | None = None
    false_share: float | None = None
