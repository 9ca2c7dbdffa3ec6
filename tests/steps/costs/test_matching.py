"""Doses that reach a level, read off measured ones."""

from __future__ import annotations

import pytest

from refusalctl.records.cost import CostArm, CostEffect, MatchedBy, MatchedDose
from refusalctl.steps.costs.matching import matched_doses

DOSES = (0.25, 0.5, 1.0)
REACHED: dict[tuple[str, MatchedBy], tuple[float | None, ...]] = {
    ("a", "removal"): (0.2, 0.6, 0.9),
    ("a", "kl"): (0.01, 0.05, 0.4),
    ("b", "removal"): (0.1, 0.3, 0.6),
    ("b", "kl"): (0.02, 0.03, 0.1),
}


def arm(name: str) -> CostArm:
    return CostArm(name, "ablate", "", 1.0, (), ("en",), DOSES)


def matched(*names: str, **levels: float) -> dict[tuple[MatchedBy, str], MatchedDose]:
    effects = [
        CostEffect(name, dose, by, "sample", "en", "share", 9, difference=value)
        for (name, by), values in REACHED.items()
        for dose, value in zip(DOSES, values, strict=True)
    ]
    found = matched_doses([arm(name) for name in names], effects, ["en", "de"], **levels)
    assert {each.lang for each in found} <= {"en"} or levels
    return {(each.by, each.arm): each for each in found if each.lang == "en"}


def test_arms_are_matched_at_the_least_that_all_reach() -> None:
    found = matched("a", "b")
    assert (found["removal", "a"].level, found["removal", "a"].asked) == (0.6, False)
    assert (found["removal", "a"].dose, found["removal", "a"].reached) == (0.5, 0.6)  # the smallest that removes enough
    assert (found["removal", "b"].dose, found["removal", "b"].reached) == (1.0, 0.6)
    assert (found["kl", "a"].dose, found["kl", "a"].reached) == (0.5, 0.05)  # the largest that moves no more than 0.1
    assert (found["kl", "b"].dose, found["kl", "b"].reached) == (1.0, 0.1)


def test_one_arm_alone_is_matched_to_a_level_that_is_given() -> None:
    assert matched("a") == {}
    assert matched("a", removal=0.7)["removal", "a"].dose == 1.0
    assert matched("a", kl=0.2)["kl", "a"].dose == 0.5


@pytest.mark.parametrize(("by", "level"), [("removal", 0.95), ("kl", 0.001)])
def test_a_level_that_no_measured_dose_reaches_has_none(by: MatchedBy, level: float) -> None:
    found = matched("a", **{by: level})[by, "a"]
    assert (found.dose, found.reached, found.asked) == (None, None, True)


def test_an_arm_that_was_not_measured_in_a_language_is_not_said_to_miss_a_level() -> None:
    assert matched_doses([arm("a")], [], ["be"], removal=0.5, kl=0.1) == ()
