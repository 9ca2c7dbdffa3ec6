"""Doses at which arms remove as much, or move the model as much: read off the ladder, nothing is interpolated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refusalctl.records.cost import CostArm, CostEffect, MatchedBy, MatchedDose
from refusalctl.steps.costs.arms import FULL

_ROUNDING = 1e-12


def matched_doses(
    arms: Sequence[CostArm],
    effects: Sequence[CostEffect],
    langs: Sequence[str],
    removal: float | None = None,
    kl: float | None = None,
) -> tuple[MatchedDose, ...]:
    """For each language: every arm's smallest dose that removes at least a level, and its largest whose KL is at most
    one. Levels that are not given are the least that any arm reaches at full dose, so that all can be compared; one
    arm alone has nothing to be matched to."""
    found: list[MatchedDose] = []
    given: Mapping[MatchedBy, float | None] = {"removal": removal, "kl": kl}
    for lang in langs:
        for by, asked in given.items():
            reached = {(e.arm, e.dose): e.difference for e in effects if e.measure == by and e.lang == lang}
            level = asked if asked is not None else _least(arms, reached)
            if level is not None:
                measured = [arm for arm in arms if any(reached.get((arm.name, d)) is not None for d in arm.doses)]
                found += [_matched(by, lang, level, asked is not None, arm, reached) for arm in measured]
    return tuple(found)


def _least(arms: Sequence[CostArm], reached: Mapping[tuple[str, float], float | None]) -> float | None:
    full = [reached.get((arm.name, FULL)) for arm in arms]
    known = [value for value in full if value is not None]
    return min(known) if len(known) == len(arms) > 1 and min(known) > 0 else None


def _matched(
    by: MatchedBy,
    lang: str,
    level: float,
    asked: bool,
    arm: CostArm,
    reached: Mapping[tuple[str, float], float | None],
) -> MatchedDose:
    measured = [(dose, value) for dose in arm.doses if (value := reached.get((arm.name, dose))) is not None]
    if by == "removal":
        fitting = [(dose, value) for dose, value in measured if value >= level - _ROUNDING]
        dose, value = min(fitting, default=(None, None))
    else:
        fitting = [(dose, value) for dose, value in measured if value <= level + _ROUNDING]
        dose, value = max(fitting, default=(None, None))
    return MatchedDose(by, lang, level, asked, arm.name, dose, value)
