"""Refusal rates as bars: baseline, transferred and native."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from refusalctl.data.languages import name as language_name
from refusalctl.records.transfer import MissingCell, TransferCell
from refusalctl.report.content import Content, Row
from refusalctl.report.figures.style import (
    BASELINE,
    INK,
    NATIVE,
    PALETTE,
    PAPER,
    RULE,
    SOFT,
    columns,
    percent,
    plain,
    style,
)
from refusalctl.stats.outcomes import UNUSABLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SOURCES = 5
_PER_INCH = 14  # characters of a footnote
DAGGER = "†"  # beside a rate of answers that the verdict rule cannot use


def refusal_rates(rows: Content, reference: str) -> Figure:
    """Bars per target: baseline, transferred sources, native; an interval on each.

    More than `MOST_SOURCES` sources would hide each other; then the reference language's alone is drawn.
    """
    sources = [s for s in rows.settings.sources if any(t != s for t in rows.targets)]
    if len(sources) > MOST_SOURCES:
        sources = [s for s in sources if s == reference] or sources[:1]
    looks = _looks(sources)
    lines = _lines(rows, sources)
    longest = max(sum(len(_shown(rows, t, sources)) + 0.9 for t in line) for line in lines)
    width = max(5.4, 1.0 + 0.42 * longest)
    with style():
        figure = Figure(figsize=(width, 1.1 + 2.6 * len(lines)), layout="constrained")
        for axes, targets in zip(figure.subplots(len(lines), squeeze=False)[:, 0], lines):
            _groups(axes, rows, targets, sources, looks)
            axes.set(ylim=(0, 112), xlim=(-0.9, longest - 0.9), ylabel="refusal rate, %")
        figure.axes[0].set_title(plain(rows.label), loc="right", fontsize=8, color=SOFT)
        footnote(figure, rows)
        handles = _legend(looks)
        n = columns(width, [str(h.get_label()) for h in handles])
        figure.legend(handles=handles, loc="outside upper left", ncols=n, frameon=False)
    return figure


def _shown(rows: Content, target: str, sources: list[str]) -> list[Row]:
    return [c for c in rows.of(target) if c.condition != "transferred" or c.source in sources]


def _lines(rows: Content, sources: list[str], most: int = 28) -> list[list[str]]:
    """Targets broken into lines of up to `most` bars, so that many languages stay readable."""
    lines: list[list[str]] = [[]]
    for target in rows.targets:
        if lines[-1] and sum(len(_shown(rows, t, sources)) for t in (*lines[-1], target)) > most:
            lines.append([])
        lines[-1].append(target)
    return lines


def _groups(axes: Axes, rows: Content, targets: list[str], sources: list[str], looks: dict[str, Look]) -> None:
    at, ticks = 0.0, []
    for target in targets:
        group = _shown(rows, target, sources)
        for i, row in enumerate(group):
            _bar(axes, at + i, row, looks)
        ticks.append(at + (len(group) - 1) / 2)
        at += len(group) + 0.9
    axes.set_xticks(ticks, [plain(f"{language_name(t)}\n{rows.baseline(t).n} prompts") for t in targets])
    axes.tick_params(axis="x", length=0, pad=7)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", color=RULE, linewidth=0.7)


Look = dict[str, Any]
_BASELINE: Look = {"facecolor": BASELINE, "edgecolor": BASELINE}
_NATIVE: Look = {"facecolor": PAPER, "edgecolor": NATIVE, "hatch": "////"}


def _looks(sources: list[str]) -> dict[str, Look]:
    """Five colours, then the same with hatches: no two sources look alike up to fifteen."""
    hatches = ("", "xxx", "...")
    return {
        s: {"facecolor": PALETTE[i % 5], "edgecolor": PAPER if i >= 5 else PALETTE[i], "hatch": hatches[i // 5 % 3]}
        for i, s in enumerate(sources)
    }


def _look(row: TransferCell, looks: dict[str, Look]) -> Look:
    return {"baseline": _BASELINE, "native": _NATIVE}.get(row.condition) or looks[str(row.source)]


def _bar(axes: Axes, x: float, row: Row, looks: dict[str, Look]) -> None:
    rate = row.refusal if isinstance(row, TransferCell) else None
    if isinstance(row, MissingCell) or rate is None:
        why = row.status if isinstance(row, MissingCell) else "no label"
        text = f"{why}: {language_name(row.source) if row.source else 'baseline'}"
        axes.text(x, 2, plain(text), rotation=90, ha="center", va="bottom", color=SOFT, fontsize=8)
        return
    low, high = rate.interval95
    value = 100 * rate.value
    look = _look(row, looks)
    axes.bar(x, value, width=0.82, linewidth=0.9, **look)
    if value < 2:  # a bar too low to show its colour
        colour = NATIVE if row.condition == "native" else look["facecolor"]
        axes.plot(x, value, marker="D", markersize=5.5, color=colour, clip_on=False, zorder=3)
    error = [[max(0.0, value - 100 * low)], [max(0.0, 100 * high - value)]]
    axes.errorbar(x, value, error, color=INK, linewidth=0.9, capsize=2.5)
    mark = DAGGER if row.unusable else ""
    axes.text(x, 100 * high + 1.5, percent(rate.value) + mark, ha="center", va="bottom", fontsize=8)


def _legend(looks: dict[str, Look]) -> list[Patch]:
    handles = [Patch(**_BASELINE, label="baseline")]
    handles += [Patch(**look, label=plain(f"{language_name(s)} direction")) for s, look in looks.items()]
    handles.append(Patch(**_NATIVE, label="target's own direction"))
    return handles


def footnote(figure: Figure, rows: Content, *notes: str) -> None:
    """What the marks mean, below the figure and within its width: the dagger where it is used, and `notes`."""
    told = list(notes)
    if any(isinstance(c, TransferCell) and c.unusable for c in rows.conditions):
        kinds = f"{', '.join(UNUSABLE[:-1])} or {UNUSABLE[-1]}"
        told.append(f"{DAGGER} over {percent(rows.limits.max_unusable)} % of all answers are {kinds}")
    if told:
        text = fill("; ".join(told), int(_PER_INCH * figure.get_figwidth()))
        figure.supxlabel(text, fontsize=8, x=0.01, ha="left", color=SOFT)
