"""The cost figure draws what was measured, and says so where there is nothing."""

from __future__ import annotations

import pytest
from matplotlib.lines import Line2D

from refusalctl.records.cost import Cost, CostArm, CostEffect, Measure
from refusalctl.records.estimates import Interval
from refusalctl.report.figures.cost import cost_of_removal

ARMS = tuple(CostArm(name, "ablate", "", 1.0, (), ("en",), (0.5, 1.0)) for name in ("a", "b"))


def effect(arm: str, dose: float, measure: Measure, value: float | None, lang: str | None = "en") -> CostEffect:
    unit = "share" if measure in ("removal", "task") else "nats"
    limits = None if value is None else Interval(value - 0.1, value + 0.1)
    return CostEffect(arm, dose, measure, "x", lang, unit, 9, difference=value, interval95=limits)


def panel(*effects: CostEffect) -> Cost:
    return Cost({}, "sample", "substring", ("en",), ARMS, effects, ())


def test_each_dose_is_a_point_at_what_it_removes_and_what_it_costs() -> None:
    figure = cost_of_removal(
        [
            panel(
                effect("a", 0.5, "removal", 0.3), effect("a", 1.0, "removal", 0.8), effect("b", 1.0, "removal", 0.6),
                effect("a", 0.5, "kl", 0.02), effect("a", 1.0, "kl", 0.2), effect("b", 1.0, "kl", 0.1),
                effect("a", 1.0, "task", -0.05, None), effect("b", 0.5, "kl", 0.3),
                effect("b", 1.0, "task", None, None),
            )
        ]
    )  # fmt: skip
    drift, task = (axes for axes in figure.axes if axes.get_visible())
    lines = {tuple(map(tuple, line.get_xydata())) for line in drift.lines}
    assert ((30.0, 0.02), (80.0, 0.2)) in {tuple((round(x, 6), round(y, 6)) for x, y in line) for line in lines}
    assert {(80.0, -5.0)} <= {tuple(p) for line in task.lines for p in line.get_xydata()}
    faces = {
        tuple(line.get_xydata()[0]): line.get_markerfacecolor() for line in drift.lines if line.get_marker() == "o"
    }
    assert faces[(30.0, 0.02)] == "none"  # the full dose alone is filled
    assert faces[(80.0, 0.2)] != "none"
    assert drift.get_xlim() == pytest.approx(task.get_xlim())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert all(isinstance(handle, Line2D) for handle in figure.legends[0].legend_handles)


def test_without_a_removal_nothing_is_drawn() -> None:
    figure = cost_of_removal([panel(effect("a", 1.0, "kl", 0.2))])
    assert "no dose has both" in figure.texts[0].get_text()
