"""Figures inside a page."""

from __future__ import annotations

import re

from matplotlib.figure import Figure

from refusalctl.report.figures import style


def drawn() -> str:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#0072B2")
    return style.svg(figure, "lines")


def test_repeated_styles_become_classes_of_the_figure_and_none_is_lost() -> None:
    first, second = (style.inline(drawn(), prefix, "lines") for prefix in ("f0-", "f1-"))
    plain = style._classed(drawn(), "x-")
    rules = dict(re.findall(r"\.(x-\d+c)\{([^}]*)\}", plain))
    again = re.sub(r' class="([^"]*)"', lambda m: f' style="{rules[m[1]]}"', plain)
    assert re.findall(r'style="[^"]*"', again) == re.findall(r'style="[^"]*"', drawn())
    used = [set(re.findall(r'class="([^"]*)"', text)) for text in (first, second)]
    assert all(used)
    assert not used[0] & used[1]
    assert len(first) < 0.95 * len(drawn())
