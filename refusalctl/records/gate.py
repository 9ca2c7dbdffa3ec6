"""What `gate` prints: every cell that an expectation is about, and what it came to."""

from __future__ import annotations

from typing import Literal

from refusalctl.records.estimates import Interval
from refusalctl.records.printed import Printed
from refusalctl.records.verdict import VerdictValue

GateState = Literal["met", "not met", "undecided"]


class GateCheck(Printed, frozen=True):
    """One cell that an expectation of `gate` is about. `verdict` None: the cell has none, and `reason` says why;
    otherwise the reason is the verdict's. `removed` is the net share of prompts that moved."""

    expectation: str
    question: Literal["removal", "induction"]
    source: str
    target: str
    verdict: VerdictValue | None
    state: GateState
    reason: str
    removed: float | None = None
    interval95: Interval | None = None


class PrintedGate(Printed, frozen=True):
    """`gate`: the transfer, what all expectations come to, the exit code that says so, and every check."""

    transfer: str
    state: GateState
    exit_code: int
    checks: tuple[GateCheck, ...]
