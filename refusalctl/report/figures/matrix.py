"""The transfer matrix as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from refusalctl.data.languages import name as language_name
from refusalctl.records.transfer import MissingCell, TransferCell
from refusalctl.report.content import Content, Row
from refusalctl.report.figures.rates import DAGGER, footnote
from refusalctl.report.figures.style import PAPER, SOFT, percent, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


def transfer_matrix(rows: Content) -> Figure:
    """Sources down, targets across, baseline on top; a last row of own directions where a target is no source."""
    sources: list[str] = list(rows.settings.sources)
    own = any(t not in sources for t in rows.targets)
    names = ["baseline\n(no ablation)", *(f"{language_name(s)}\ndirection" for s in sources)]
    names += ["target's own\ndirection"] if own else []
    n_rows, n_columns = len(names), len(rows.targets)
    with style():
        figure = Figure(figsize=(1.7 + 1.05 * n_columns, 0.75 + 0.66 * n_rows), layout="constrained")
        axes = figure.add_subplot()
        for x, target in enumerate(rows.targets):
            by_source = {c.source: c for c in rows.of(target)}
            for y, source in enumerate([None, *sources, *([target] if own else [])]):
                _cell(axes, x, y, by_source[source], mpl.colormaps["Blues"])
        axes.set(xlim=(-0.02, n_columns + 0.02), ylim=(n_rows + 0.02, -0.02))
        axes.set_xticks([i + 0.5 for i in range(n_columns)], [plain(language_name(t)) for t in rows.targets])
        axes.set_yticks([i + 0.5 for i in range(n_rows)], [plain(n) for n in names])
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("refusals among harmful test prompts in")
        footnote(figure, rows, "outlined: the language's own direction")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def _cell(axes: Axes, x: int, y: int, row: Row, colours: Colormap) -> None:
    rate = row.refusal if isinstance(row, TransferCell) else None
    if isinstance(row, MissingCell) or rate is None:
        axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, facecolor=PAPER, edgecolor="#bdbdbd", hatch="///"))
        text = row.status if isinstance(row, MissingCell) else "no label"
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8, color=SOFT, bbox=box)
        return
    shade = 0.04 + 0.86 * rate.value
    axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, facecolor=colours(shade), edgecolor="#bdbdbd"))
    if row.condition == "native":
        outline = Rectangle((x + 0.045, y + 0.045), 0.91, 0.91, fill=False, edgecolor="#D55E00", linewidth=2)
        axes.add_patch(outline)
    ink = "white" if shade > 0.68 else "black"
    mark = f" {DAGGER}" if row.unusable else ""
    axes.text(x + 0.5, y + 0.42, f"{percent(rate.value)} %{mark}", ha="center", va="center", color=ink, fontsize=11)
    axes.text(x + 0.5, y + 0.74, f"n = {rate.n}", ha="center", va="center", color=ink, fontsize=8)
