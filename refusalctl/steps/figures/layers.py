"""Scores of every candidate by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from refusalctl.data.languages import name as language_name
from refusalctl.steps.figures.style import INK, PALETTE, RULE, STYLES, columns, plain, style
from refusalctl.steps.report_rows import Choice, Content

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 6  # languages whose curves carry a mark per layer; with more, marks weigh more than they tell
_PANELS = (("bypass", "bypass (lower is better)"), ("induce", "induce (higher is better)"), ("kl", "KL, nats (lower)"))


def layer_scores(rows: Content) -> Figure:
    """One row of panels per language with a direction: bypass, induce and KL by layer, a line per position."""
    choices = list(rows.choices.values())
    with style():
        figure = Figure(figsize=(8.6, 0.75 + 1.85 * max(1, len(choices))), layout="constrained")
        if not choices:
            figure.text(0.5, 0.5, "no direction was chosen in any language", ha="center", va="center")
            return figure
        grid = figure.subplots(len(choices), 3, squeeze=False)
        for found, line in zip(choices, grid):
            for axes, (score, title) in zip(line, _PANELS):
                _panel(axes, found, score, markers=len(choices) <= FEW)
                axes.set_title(title if found is choices[0] else "", loc="left")
            line[0].set_ylabel(plain(language_name(found.lang)), fontweight="bold")
        for axes in grid[-1]:
            axes.set_xlabel("layer")
        handles, labels = _unique_legend(grid)
        figure.legend(handles, labels, loc="outside upper left", ncols=columns(8.6, labels), frameon=False)
    return figure


def _panel(axes: Axes, found: Choice, score: str, *, markers: bool) -> None:
    for i, pos in enumerate(found.positions):
        points = [(c.layer, getattr(c, score)) for c in found.candidates if c.pos == pos]
        style: dict[str, Any] = {
            "color": PALETTE[i % 6],
            "linestyle": STYLES[i // 6 % 4],
            "linewidth": 1.2,
            "marker": "o" if markers else "",
        }
        text = plain(f"position {pos}: {found.token(pos)!a}")
        axes.plot(*zip(*sorted(points)), markersize=2.2, label=text, **style)
    if score == "kl":
        axes.set_yscale("symlog", linthresh=max(found.rule["max_kl"], 1e-3))
    limit = {"kl": found.rule["max_kl"], "induce": found.rule["min_induce"]}.get(score)
    if limit is not None:
        axes.axhline(limit, color=INK, linestyle=(0, (4, 3)), linewidth=0.9, label="threshold of the rule")
    winner = found.winner
    axes.plot(
        winner.layer, getattr(winner, score), marker="o", markersize=9, markerfacecolor="none", color=INK,
        linestyle="none", markeredgewidth=1.4, clip_on=False, label="chosen",
    )  # fmt: skip
    axes.grid(color=RULE, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _unique_legend(grid: Any) -> tuple[list[Any], list[str]]:
    seen: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, text in zip(*axes.get_legend_handles_labels()):
            seen.setdefault(text, handle)
    last = [t for t in ("threshold of the rule", "chosen") if t in seen]
    order = [t for t in seen if t not in last] + last
    return [seen[t] for t in order], order
