"""Compliance before and after ablation, per model and language: the figure that published work shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from refusalctl.data.languages import name as language_name
from refusalctl.records.transfer import TransferCell
from refusalctl.report.content import Content
from refusalctl.report.figures.style import INK, PALETTE, RULE, SOFT, columns, empty, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BEFORE, _AFTER, _PUBLISHED = PALETTE[0], PALETTE[4], PALETTE[2]
WIDEST = 4  # panels beside each other


class Pair(NamedTuple):
    """Two compliance rates of one language, as shares."""

    before: float
    after: float


def compliance(runs: Sequence[Content], reference: str, published: Mapping[int, Mapping[str, Pair]]) -> Figure:
    """A panel per run, a line per target from baseline (ring) to ablation of the reference direction (dot).

    `published`: by index of the run, figures of the same model and source language, drawn as crosses.
    """
    rows = {i: _measured(run, reference) for i, run in enumerate(runs)}
    if not any(rows.values()):
        return empty(f"no target was measured under the {language_name(reference)} direction")
    n_lines = max(map(len, rows.values()))
    width = min(len(runs), WIDEST)
    deep = -(-len(runs) // width)
    with style():
        size = (max(5.4, 0.9 + 2.9 * width), deep * (0.75 + 0.27 * n_lines) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        for i, axes in enumerate(figure.subplots(deep, width, squeeze=False).flat):
            if i < len(runs):
                _panel(axes, runs[i], rows[i], published.get(i, {}))
            else:
                axes.set_visible(False)
        handles = _legend(reference, any(published.values()))
        n = columns(size[0], [str(h.get_label()) for h in handles])
        figure.legend(handles=handles, loc="outside upper left", ncols=n, frameon=False)
    return figure


def _measured(run: Content, reference: str) -> list[tuple[str, TransferCell, TransferCell]]:
    """Target, baseline and ablated cell, where both have labels."""
    found = []
    for target in run.targets:
        base, cell = run.baseline(target), run.cell(reference, target)
        if isinstance(cell, TransferCell) and cell.compliance and base.compliance:
            found.append((target, base, cell))
    return found


def _panel(
    axes: Axes, run: Content, rows: list[tuple[str, TransferCell, TransferCell]], published: Mapping[str, Pair]
) -> None:
    for y, (target, *cells) in enumerate(rows):
        at = []
        for row, colour, fill in zip(cells, (_BEFORE, _AFTER), ("none", _AFTER)):
            rate = row.compliance
            assert rate is not None
            low, high = rate.interval95
            axes.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=4, alpha=0.3, solid_capstyle="butt")
            axes.plot(
                100 * rate.value, y, "o", color=colour, markerfacecolor=fill, markersize=6, clip_on=False, zorder=3
            )
            at.append(100 * rate.value)
        axes.annotate("", (at[1], y), (at[0], y), arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.9})
        if target in published:
            for value, colour in zip(published[target], (_BEFORE, _AFTER)):
                axes.plot(100 * value, y + 0.28, "x", color=colour, markersize=5, clip_on=False, zorder=3)
    axes.set_yticks(range(len(rows)), [plain(language_name(t)) for t, *_ in rows])
    axes.set(xlim=(-3, 103), ylim=(len(rows) - 0.4, -0.6), xlabel="compliance, %")
    axes.set_title(plain(run.label), loc="left")
    axes.grid(color=RULE, linewidth=0.7)
    axes.tick_params(axis="y", length=0)


def _legend(reference: str, published: bool) -> list[Line2D]:
    looks: list[tuple[str, Any]] = [
        ("baseline", {"marker": "o", "color": _BEFORE, "markerfacecolor": "none"}),
        (f"{language_name(reference)} direction ablated", {"marker": "o", "color": _AFTER}),
        ("95 % interval", {"color": SOFT, "linewidth": 4, "alpha": 0.4}),
    ]
    if published:
        looks.append(("published, same colours", {"marker": "x", "color": INK}))
    return [
        Line2D([], [], linestyle="-" if "linewidth" in look else "none", label=text, **look) for text, look in looks
    ]
