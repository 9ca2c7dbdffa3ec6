"""Figures of a report, drawn with Agg on objects of their own: no global state, and the same bytes each time."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from refusalctl.data.languages import name as language_name
from refusalctl.steps.report_rows import SPOILED, Choice, Condition, Content, Missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008), without black and yellow: baseline and native have marks of their own
PALETTE = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#009E73")
NATIVE, BASELINE, GREY = "#009E73", "#595959", "#8a8a8a"
STYLES = ("-", "--", "-.", ":")
_RC: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path",
    "axes.titlesize": 9, "hatch.linewidth": 0.6, "font.family": "DejaVu Sans", "axes.axisbelow": True,
}  # fmt: skip
DESCRIPTIONS = {
    "refusal_rates": "Bar chart: refusal rate per target language at baseline, under transferred directions and under "
    "its own direction, with 95 % Wilson intervals. The table below holds every number.",
    "transfer_matrix": "Heat map: refusal rate after ablation for each source direction and target language. "
    "The table below holds every number.",
    "layer_scores": "Line charts: bypass, induce and KL scores of every candidate by layer, one line per token "
    "position. candidates.csv holds every number.",
}


@contextmanager
def _style(**more: str) -> Iterator[None]:
    """Our settings alone: a reader's own matplotlibrc must not change a report's bytes."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC | more)
        yield


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar sign would begin mathematics


def _percent(value: float) -> str:
    return f"{value * 100:.0f}"


# --- refusal rates -----------------------------------------------------------------------------------


def refusal_rates(rows: Content) -> Figure:
    """Bars per target: baseline, each transferred source, native; an interval on each."""
    sources = [s for s in rows.experiment["sources"] if any(t != s for t in rows.targets)]
    looks = _looks(sources)
    lines = _lines(rows)
    longest = max(sum(len(rows.of(t)) + 0.9 for t in line) for line in lines)
    width = max(5.4, 1.0 + 0.42 * longest)
    with _style():
        figure = Figure(figsize=(width, 1.1 + 2.6 * len(lines)), layout="constrained")
        for axes, targets in zip(figure.subplots(len(lines), squeeze=False)[:, 0], lines):
            _groups(axes, rows, targets, looks)
            axes.set(ylim=(0, 112), xlim=(-0.9, longest - 0.9), ylabel="refusal rate, %")
        figure.axes[0].set_title(_plain(rows.model["name"]), loc="right", fontsize=8, color="#555555")
        _footnote(figure, rows)
        handles = _legend(looks)
        columns = _columns(width, [str(h.get_label()) for h in handles])
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False)
    return figure


def _lines(rows: Content, most: int = 28) -> list[list[str]]:
    """Targets broken into lines of up to `most` bars, so that many languages stay readable."""
    lines: list[list[str]] = [[]]
    for target in rows.targets:
        if lines[-1] and sum(len(rows.of(t)) for t in (*lines[-1], target)) > most:
            lines.append([])
        lines[-1].append(target)
    return lines


def _columns(width: float, labels: list[str]) -> int:
    """How many legend columns fit: a character takes 0.066 inches, a handle with its margins 0.45."""
    return max(1, int(width / (0.45 + 0.066 * max(map(len, labels)))))


def _groups(axes: Axes, rows: Content, targets: list[str], looks: dict[str, Look]) -> None:
    at, ticks = 0.0, []
    for target in targets:
        group = rows.of(target)
        for i, row in enumerate(group):
            _bar(axes, at + i, row, looks)
        ticks.append(at + (len(group) - 1) / 2)
        at += len(group) + 0.9
    axes.set_xticks(ticks, [_plain(f"{language_name(t)}\n{rows.baseline(t).n} prompts") for t in targets])
    axes.tick_params(axis="x", length=0, pad=7)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)


Look = dict[str, Any]
_BASELINE: Look = {"facecolor": BASELINE, "edgecolor": BASELINE}
_NATIVE: Look = {"facecolor": "white", "edgecolor": NATIVE, "hatch": "////"}


def _looks(sources: list[str]) -> dict[str, Look]:
    """Five colours, then the same with hatches: no two sources look alike up to fifteen."""
    hatches = ("", "xxx", "...")
    return {
        s: {"facecolor": PALETTE[i % 5], "edgecolor": "white" if i >= 5 else PALETTE[i], "hatch": hatches[i // 5 % 3]}
        for i, s in enumerate(sources)
    }


def _look(row: Condition, looks: dict[str, Look]) -> Look:
    return {"baseline": _BASELINE, "native": _NATIVE}.get(row.condition) or looks[str(row.source)]


def _bar(axes: Axes, x: float, row: Condition | Missing, looks: dict[str, Look]) -> None:
    rate = row.rate("refusal") if isinstance(row, Condition) else None
    if isinstance(row, Missing) or rate is None:
        why = "no direction" if isinstance(row, Missing) else "no label"
        text = f"{why}: {language_name(row.source) if row.source else 'baseline'}"
        axes.text(x, 2, _plain(text), rotation=90, ha="center", va="bottom", color="#555555", fontsize=8)
        return
    low, high = rate.wilson()
    value = 100 * rate.value
    look = _look(row, looks)
    axes.bar(x, value, width=0.82, linewidth=0.9, **look)
    if value < 2:  # a bar too low to show its colour
        colour = NATIVE if row.condition == "native" else look["facecolor"]
        axes.plot(x, value, marker="D", markersize=5.5, color=colour, clip_on=False, zorder=3)
    error = [[max(0.0, value - 100 * low)], [max(0.0, 100 * high - value)]]
    axes.errorbar(x, value, error, color="black", linewidth=0.9, capsize=2.5)
    mark = "†" if row.spoiled > SPOILED else ""
    axes.text(x, 100 * high + 1.5, _percent(rate.value) + mark, ha="center", va="bottom", fontsize=8)


def _legend(looks: dict[str, Look]) -> list[Patch]:
    handles = [Patch(**_BASELINE, label="baseline")]
    handles += [Patch(**look, label=_plain(f"{language_name(s)} direction")) for s, look in looks.items()]
    handles.append(Patch(**_NATIVE, label="target's own direction"))
    return handles


def _footnote(figure: Figure, rows: Content) -> None:
    if any(isinstance(c, Condition) and c.spoiled > SPOILED for c in rows.conditions):
        text = f"† over {SPOILED * 100:.0f} % of all answers are degenerate or unparsed"
        figure.supxlabel(text, fontsize=8, x=0.01, ha="left", color="#333333")


# --- transfer matrix ---------------------------------------------------------------------------------


def transfer_matrix(rows: Content) -> Figure:
    """Sources down, targets across, baseline on top; a last row of own directions where a target is no source."""
    sources: list[str] = list(rows.experiment["sources"])
    own = any(t not in sources for t in rows.targets)
    names = ["baseline\n(no ablation)", *(f"{language_name(s)}\ndirection" for s in sources)]
    names += ["target's own\ndirection"] if own else []
    n_rows, n_columns = len(names), len(rows.targets)
    with _style():
        figure = Figure(figsize=(1.7 + 1.05 * n_columns, 0.75 + 0.66 * n_rows), layout="constrained")
        axes = figure.add_subplot()
        for x, target in enumerate(rows.targets):
            by_source = {c.source: c for c in rows.of(target)}
            for y, source in enumerate([None, *sources, *([target] if own else [])]):
                _cell(axes, x, y, by_source[source], mpl.colormaps["Blues"])
        axes.set(xlim=(-0.02, n_columns + 0.02), ylim=(n_rows + 0.02, -0.02))
        axes.set_xticks([i + 0.5 for i in range(n_columns)], [_plain(language_name(t)) for t in rows.targets])
        axes.set_yticks([i + 0.5 for i in range(n_rows)], [_plain(n) for n in names])
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("harmful test prompts in")
        _footnote(figure, rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def _cell(axes: Axes, x: int, y: int, row: Condition | Missing, colours: Any) -> None:
    rate = row.rate("refusal") if isinstance(row, Condition) else None
    if isinstance(row, Missing) or rate is None:
        axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, facecolor="white", edgecolor="#bdbdbd", hatch="///"))
        text = "no direction" if isinstance(row, Missing) else "no label"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8, color="#444444", bbox=box)
        return
    shade = 0.04 + 0.86 * rate.value
    axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, facecolor=colours(shade), edgecolor="#bdbdbd"))
    if row.condition == "native":
        outline = Rectangle((x + 0.045, y + 0.045), 0.91, 0.91, fill=False, edgecolor="#D55E00", linewidth=2)
        axes.add_patch(outline)
    ink = "white" if shade > 0.68 else "black"
    mark = " †" if row.spoiled > SPOILED else ""
    axes.text(x + 0.5, y + 0.42, f"{_percent(rate.value)} %{mark}", ha="center", va="center", color=ink, fontsize=11)
    axes.text(x + 0.5, y + 0.74, f"n = {rate.n}", ha="center", va="center", color=ink, fontsize=8)


# --- layer scores ------------------------------------------------------------------------------------

_PANELS = (("bypass", "bypass (lower is better)"), ("induce", "induce (higher is better)"), ("kl", "KL, nats (lower)"))


def layer_scores(rows: Content) -> Figure:
    """One row of panels per language with a direction: bypass, induce and KL by layer, a line per position."""
    choices = list(rows.choices.values())
    with _style():
        figure = Figure(figsize=(8.6, 0.75 + 1.85 * max(1, len(choices))), layout="constrained")
        if not choices:
            figure.text(0.5, 0.5, "no direction was chosen in any language", ha="center", va="center")
            return figure
        grid = figure.subplots(len(choices), 3, squeeze=False)
        for found, line in zip(choices, grid):
            for axes, (score, title) in zip(line, _PANELS):
                _panel(axes, found, score)
                axes.set_title(title if found is choices[0] else "", loc="left")
            line[0].set_ylabel(_plain(language_name(found.lang)), fontweight="bold")
        for axes in grid[-1]:
            axes.set_xlabel("layer")
        handles, labels = _unique_legend(grid)
        figure.legend(handles, labels, loc="outside upper left", ncols=_columns(8.6, labels), frameon=False)
    return figure


def _panel(axes: Axes, found: Choice, score: str) -> None:
    for i, pos in enumerate(found.positions):
        points = [(c.layer, getattr(c, score)) for c in found.candidates if c.pos == pos]
        style: dict[str, Any] = {
            "color": PALETTE[i % 6],
            "linestyle": STYLES[i // 6 % 4],
            "linewidth": 1.2,
            "marker": "o",
        }
        text = _plain(f"position {pos}: {found.token(pos)!a}")
        axes.plot(*zip(*sorted(points)), markersize=2.2, label=text, **style)
    if score == "kl":
        axes.set_yscale("symlog", linthresh=max(found.rule["max_kl"], 1e-3))
    limit = {"kl": found.rule["max_kl"], "induce": found.rule["min_induce"]}.get(score)
    if limit is not None:
        axes.axhline(limit, color="black", linestyle=(0, (4, 3)), linewidth=0.9, label="threshold of the rule")
    winner = found.winner
    axes.plot(
        winner.layer, getattr(winner, score), marker="o", markersize=9, markerfacecolor="none", color="black",
        linestyle="none", markeredgewidth=1.4, clip_on=False, label="chosen",
    )  # fmt: skip
    axes.grid(color="#ececec", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _unique_legend(grid: Any) -> tuple[list[Any], list[str]]:
    seen: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, text in zip(*axes.get_legend_handles_labels()):
            seen.setdefault(text, handle)
    last = [t for t in ("threshold of the rule", "chosen") if t in seen]
    order = [t for t in seen if t not in last] + last
    return [seen[t] for t in order], order


FIGURES: dict[str, Callable[[Content], Figure]] = {
    "refusal_rates": refusal_rates,
    "transfer_matrix": transfer_matrix,
    "layer_scores": layer_scores,
}


# --- to bytes ----------------------------------------------------------------------------------------


def png(figure: Figure) -> bytes:
    """200 dpi, without the library's version in the metadata."""
    out = io.BytesIO()
    with _style():
        FigureCanvasAgg(figure)
        figure.savefig(out, format="png", dpi=200, metadata={"Software": None})
    return out.getvalue()


def svg(figure: Figure, name: str) -> str:
    """Text drawn as paths, so that it looks the same everywhere; ids salted with the name, no date."""
    out = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with _style(**{"svg.hashsalt": name}):
        figure.savefig(out, format="svg", metadata=nothing)
    return out.getvalue()


def inline(text: str, name: str, description: str) -> str:
    """An SVG file as an element of a page: ids made unique, described for readers who hear it.

    Width follows the page between readable limits.
    """
    text = re.sub(r"<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", text)
    points = float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])  # type: ignore[index]
    pixels = points * 96 / 72
    size = f'style="max-width:{pixels * 1.15:.0f}px;min-width:{min(pixels, 330 + pixels * 0.35):.0f}px"'
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg ', lambda m: f"<svg {m[1] or ''}", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" {size} ', 1).strip()
