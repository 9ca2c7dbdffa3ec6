"""Scores of every candidate by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from refusalctl.data.languages import name as language_name
from refusalctl.report.content import Choice, Content
from refusalctl.report.figures.style import INK, PALETTE, RULE, STYLES, columns, empty, plain, style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

FEW = 6  # languages with three panels each; of more, bypass alone is drawn, in small panels
_PANELS = (("bypass", "bypass (lower is better)"), ("induce", "induce (higher is better)"), ("kl", "KL, nats (lower)"))


def layer_scores(rows: Content) -> Figure:
    """One row of panels per language with a direction: bypass, induce and KL by layer, a line per position.

    More than `FEW` languages get one small panel each, of the bypass score.
    """
    choices = list(rows.choices.values())
    if not choices:
        return empty("no direction was chosen in any language")
    with style():
        panels = _rows_of_three(choices) if len(choices) <= FEW else _small_multiples(choices)
        figure = panels[0].figure
        assert isinstance(figure, Figure)
        handles, labels = _unique_legend(panels)
        n = columns(figure.get_figwidth(), labels)
        figure.legend(handles, labels, loc="outside upper left", ncols=n, frameon=False)
    return figure


def _rows_of_three(choices: list[Choice]) -> list[Axes]:
    figure = Figure(figsize=(8.6, 0.75 + 1.85 * len(choices)), layout="constrained")
    grid = figure.subplots(len(choices), 3, squeeze=False)
    for found, line in zip(choices, grid):
        for axes, (score, title) in zip(line, _PANELS):
            _panel(axes, found, score)
            axes.set_title(title if found is choices[0] else "", loc="left")
        line[0].set_ylabel(plain(language_name(found.lang)), fontweight="bold")
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    return list(grid.flat)


def _small_multiples(choices: list[Choice], across: int = 5) -> list[Axes]:
    deep = -(-len(choices) // across)
    figure = Figure(figsize=(0.6 + 1.85 * across, 0.9 + 1.45 * deep), layout="constrained")
    panels = list(figure.subplots(deep, across, squeeze=False, sharex=True, sharey=True).flat)
    for axes, found in zip(panels, choices):
        _panel(axes, found, "bypass")
        axes.set_title(plain(language_name(found.lang)), loc="left")
    for spare in panels[len(choices) :]:
        spare.set_visible(False)
    figure.supxlabel("layer", fontsize=9)
    figure.supylabel(_PANELS[0][1], fontsize=9)
    return panels[: len(choices)]


def _panel(axes: Axes, found: Choice, score: str) -> None:
    for i, pos in enumerate(found.positions):
        points = [(c.layer, getattr(c, score)) for c in found.candidates if c.pos == pos]
        line: dict[str, Any] = {"color": PALETTE[i % 6], "linestyle": STYLES[i // 6 % 4], "linewidth": 1.1}
        text = plain(f"position {pos}: {found.token(pos)!a}")
        axes.plot(*zip(*sorted(points)), label=text, **line)
    if score == "kl":
        axes.set_yscale("symlog", linthresh=max(found.rule.max_kl or 0, 1e-3))
    limit = {"kl": found.rule.max_kl, "induce": found.rule.min_induce}.get(score)
    if limit is not None:
        axes.axhline(limit, color=INK, linestyle=(0, (4, 3)), linewidth=0.9, label="threshold of the rule")
    winner = found.winner
    axes.plot(
        winner.layer,
        getattr(winner, score),
        marker="o",
        markersize=9,
        markerfacecolor="none",
        color=INK,
        linestyle="none",
        markeredgewidth=1.4,
        clip_on=False,
        label="chosen",
    )
    axes.grid(color=RULE, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _unique_legend(panels: list[Axes]) -> tuple[list[Artist], list[str]]:
    seen: dict[str, Artist] = {}
    for axes in panels:
        for handle, text in zip(*axes.get_legend_handles_labels()):
            seen.setdefault(text, handle)
    last = [t for t in ("threshold of the rule", "chosen") if t in seen]
    order = [t for t in seen if t not in last] + last
    return [seen[t] for t in order], order
