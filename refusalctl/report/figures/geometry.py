"""Geometry: cosines by layer, maps of activations, and where languages lie on the reference direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from refusalctl.data.languages import name as language_name
from refusalctl.records.geometry import LanguageGeometry
from refusalctl.report.figures.style import HARMFUL, HARMLESS, INK, PALETTE, RULE, SOFT, columns, empty, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 4  # panels beside each other
MANY_POINTS = 3000  # above this a cloud becomes an image inside the drawing


def _grid(n: int, height: float, **how: Any) -> tuple[Figure, list[Axes]]:
    width = min(n, ACROSS)
    deep = -(-n // width)
    figure = Figure(figsize=(max(5.4, 0.5 + 2.15 * width), 0.7 + height * deep), layout="constrained")
    axes = list(figure.subplots(deep, width, squeeze=False, **how).flat)
    for spare in axes[n:]:
        spare.set_visible(False)
    return figure, axes[:n]


def _line(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if v is None else v for v in values], dtype=float)  # NaN leaves a gap in a line


def _reliability(found: LanguageGeometry, lang: str, pos: int) -> NDArray[np.float64]:
    return _line(next(c.values for c in found.curves.reliability if (c.lang, c.pos) == (lang, pos)))


def _cosine(found: LanguageGeometry, a: str, b: str, pos: int) -> NDArray[np.float64]:
    return _line(next(c.values for c in found.curves.cosine if {c.a, c.b} == {a, b} and c.pos == pos))


def layer_cosines(found: LanguageGeometry) -> Figure:
    """Per language: cosine with the reference language's direction by layer, its ceiling, and harmfulness apart."""
    reference = found.settings.reference
    site = found.sites.refusal
    others = [lang for lang in found.langs if lang != reference]
    layers = np.arange(found.n_layers)
    with style():
        figure, panels = _grid(len(others), 1.6, sharex=True, sharey=True)
        for axes, lang in zip(panels, others):
            steady = [_reliability(found, each, site.pos) for each in (reference, lang)]
            axes.plot(layers, np.sqrt(steady[0] * steady[1]), color=SOFT, linestyle=":", label="noise ceiling")
            axes.plot(layers, _cosine(found, reference, lang, site.pos), color=PALETTE[0], label="refusal direction")
            harm = _cosine(found, reference, lang, found.inst_position)
            axes.plot(layers, harm, color=PALETTE[4], linestyle="--", label="harmfulness direction")
            axes.axvline(site.layer, color=INK, linewidth=0.7, label="place looked at below")
            axes.axhline(0, color=RULE, linewidth=0.8)
            axes.set_title(plain(language_name(lang)), loc="left")
            axes.set_ylim(-0.35, 1.05)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.supxlabel("layer", fontsize=9)
        figure.supylabel(plain(f"cosine with {language_name(reference)}"), fontsize=9)
        _legend(figure, panels[0])
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    n = columns(figure.get_figwidth(), labels)
    figure.legend(handles, labels, loc="outside upper left", ncols=n, frameon=False, markerscale=1.6)


def activation_maps(found: LanguageGeometry) -> Figure:
    """Per language: harmful and harmless train prompts on its own first two principal components."""
    rows = {k: v.map for k, v in found.sites.refusal.languages.items() if v.map is not None}
    if not rows:
        return empty("all activations at this place are the same")
    crowded = sum(len(m.harmful) + len(m.harmless) for m in rows.values()) > MANY_POINTS
    with style():
        figure, panels = _grid(len(rows), 1.75)
        for axes, (lang, drawn) in zip(panels, rows.items()):
            clouds = (("harmless", drawn.harmless, HARMLESS, "o"), ("harmful", drawn.harmful, HARMFUL, "^"))
            for kind, cloud, colour, mark in clouds:
                points = np.array(cloud)
                axes.scatter(
                    points[:, 0],
                    points[:, 1],
                    s=9,
                    marker=mark,
                    color=colour,
                    alpha=0.65,
                    linewidths=0,
                    label=f"{kind} prompts",
                    rasterized=crowded,
                )
            axes.set_title(plain(language_name(lang)), loc="left")
            axes.set_xlabel(f"{drawn.explained[0] * 100:.0f} % of variance", fontsize=7.5)
            axes.set_ylabel(f"{drawn.explained[1] * 100:.0f} %", fontsize=7.5)
            axes.set_xticks([])
            axes.set_yticks([])
        _legend(figure, panels[0])
    return figure


def projections(found: LanguageGeometry) -> Figure:
    """Per language: spread of held-out projections on the reference direction, harmful above harmless."""
    shown = found.sites.refusal.projection
    if shown is None or not shown.languages:
        return empty(shown.reason if shown else "the reference language has no direction at this place")
    rows = shown.languages
    with style():
        figure = Figure(figsize=(6.6, 0.9 + 0.42 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for y, values in enumerate(rows.values()):
            rows_of = (
                ("harmful", -0.16, values.harmful, HARMFUL, "^"),
                ("harmless", 0.16, values.harmless, HARMLESS, "o"),
            )
            for kind, shift, places, colour, mark in rows_of:
                low, left, middle, right, high = np.percentile(places, [5, 25, 50, 75, 95])
                label = f"{kind} prompts" if y == 0 else None
                axes.plot([low, high], [y + shift] * 2, color=colour, linewidth=1)
                axes.plot([left, right], [y + shift] * 2, color=colour, linewidth=4.5, solid_capstyle="butt", alpha=0.6)
                axes.plot(middle, y + shift, mark, color=colour, markersize=5.5, label=label)
        for at in (0, 1):
            axes.axvline(at, color=SOFT, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(rows)), [plain(language_name(lang)) for lang in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        name = language_name(shown.reference)
        axes.set_xlabel(
            plain(f"projection on the {name} direction (0: {name} harmless, 1: {name} harmful, on average)")
        )
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        axes.tick_params(axis="y", length=0)
        _legend(figure, axes)
    return figure
