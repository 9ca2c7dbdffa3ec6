"""`comparison.json`: two transfers cell by cell, on the same prompts where their ids agree."""

from __future__ import annotations

from typing import ClassVar, Literal

from refusalctl.records.estimates import Interval
from refusalctl.records.record import Part, Record
from refusalctl.records.transfer import TransferCell


class PairedRefusals(Part, frozen=True):
    """Refusals on the same prompts: in both, in one only, in neither; second minus first with 95 % limits, and p.

    Limits: Tango's score interval, over clusters where prompts repeat; p: exact McNemar, two-sided (`stats/paired`).
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    interval95: Interval
    p: float


class ComparedCell(Part, frozen=True):
    """One cell that both transfers hold.

    `paired` and `kappa` are None where no prompt id is in both, or nothing could be labelled. `changed`: shared prompts
    whose outcome, `unparsed` among them, is another in the second.
    """

    first: TransferCell
    second: TransferCell
    shared: int  # prompts whose ids are in both
    changed: int | None
    paired: PairedRefusals | None
    p_holm: float | None  # over all cells that could be tested
    kappa: float | None  # Cohen's, over all outcomes
    same_completions: bool  # both labelled the very same completions, so only the judge differs

    @property
    def target(self) -> str:
        return self.first.target


class SettingDifference(Part, frozen=True):
    """A setting in which two transfers differ, as text; None where one has no such setting."""

    setting: str
    first: str | None
    second: str | None


class LoneCell(Part, frozen=True):
    """A cell that only one of the two transfers holds."""

    transfer: Literal["first", "second"]
    cell: str


class NoiseFloor(Part, frozen=True):
    """Outcomes that a rerun alone changes, over all cells, with the exact 95 % limits of their share."""

    changed: int
    n: int
    value: float
    limits95: Interval


class Comparison(Record, frozen=True):
    FORMAT: ClassVar[str] = "comparison"
    FILE: ClassVar[str] = "comparison.json"
    VERSION: ClassVar[int] = 4  # 3: conditions before the second version of controls

    first: str  # artifact id
    second: str  # artifact id
    differs: tuple[SettingDifference, ...]
    cells: tuple[ComparedCell, ...]
    only: tuple[LoneCell, ...]
    noise_floor: NoiseFloor | None  # None where more than the run differs
