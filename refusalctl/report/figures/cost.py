"""What interventions cost against what they remove: a line per arm along its doses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from refusalctl.data.languages import name as language_name
from refusalctl.records.cost import MEASURES, Cost, CostEffect, Measure
from refusalctl.report.cost_words import named
from refusalctl.report.figures.style import INK, PALETTE, RULE, SOFT, STYLES, columns, empty, plain, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS, MOST_PANELS = 3, 12
_MARKS = ("o", "s", "^", "D", "v", "P")
_TITLE = 30  # characters of a panel's title in one line


class _Point(NamedTuple):
    """One dose: what it removes and what it costs, as drawn, with the limits of both."""

    dose: float
    removed: float
    cost: CostEffect


class _Key(NamedTuple):
    """One panel: a measure of one set, text or task, in one unit."""

    measure: Measure
    name: str
    unit: str


def cost_of_removal(costs: Sequence[Cost]) -> Figure:
    """Small panels, one per measure: its change against the baseline by refusals removed, with 95 % limits.

    A colour per arm, a mark per language; the full dose is filled. Tasks and texts know no language of their own:
    they are drawn over the removal of the arm's first language.
    """
    keys = _keys(costs)
    if not keys:
        return empty("no dose has both a removal and a cost")
    shown = keys[:MOST_PANELS]
    deep = -(-len(shown) // ACROSS)
    with style():
        figure = Figure(figsize=(8.6, 0.8 + 2.3 * deep), layout="constrained")
        panels = list(figure.subplots(deep, ACROSS, squeeze=False).flat)
        for axes, key in zip(panels, shown):
            _panel(axes, key, costs)
        for spare in panels[len(shown) :]:
            spare.set_visible(False)
        note = "refusals removed, points; filled: full dose"
        if len(keys) > len(shown):
            note += f"; {len(keys) - len(shown)} more measures stand in the table"
        figure.supxlabel(note, fontsize=9, color=SOFT)
        low, high = (limit(axes.get_xlim()[i] for axes in panels[: len(shown)]) for i, limit in enumerate((min, max)))
        for axes in panels[: len(shown)]:
            axes.set_xlim(low, high)  # the same removal stands at the same place everywhere
        handles = _legend(costs)
        n = columns(8.6, [str(handle.get_label()) for handle in handles])
        figure.legend(handles=handles, loc="outside upper left", ncols=n, frameon=False)
    return figure


def _legend(costs: Sequence[Cost]) -> list[Line2D]:
    """A line per arm, and where there are several languages a mark for each."""
    arms, langs = _arms(costs), _langs(costs)
    found = [Line2D([], [], linewidth=1.4, label=plain(arm), **_line(i)) for i, arm in enumerate(arms)]
    if len(langs) > 1:
        for i, lang in enumerate(langs):
            look = {"marker": _MARKS[i % len(_MARKS)], "linestyle": "none", "color": SOFT}
            found.append(Line2D([], [], label=plain(language_name(lang)), **look))  # type: ignore[arg-type]
    return found


def _arms(costs: Sequence[Cost]) -> list[str]:
    return list(dict.fromkeys(arm.name for cost in costs for arm in cost.arms))


def _langs(costs: Sequence[Cost]) -> list[str]:
    return list(dict.fromkeys(lang for cost in costs for lang in cost.langs))


def _line(rank: int) -> dict[str, Any]:
    return {"color": PALETTE[rank % len(PALETTE)], "linestyle": STYLES[rank // len(PALETTE) % len(STYLES)]}


def _keys(costs: Sequence[Cost]) -> list[_Key]:
    """Measures that stand beside a removal at some dose, per token where a loss has two units."""
    found = {
        _Key(e.measure, e.name, e.unit)
        for cost in costs
        for e in cost.effects
        if e.measure != "removal"
        and e.unit != "nats/byte"
        and e.difference is not None
        and _removed(cost, e) is not None
    }
    return sorted(found, key=lambda key: (MEASURES.index(key.measure), key.name, key.unit))


def _removed(cost: Cost, effect: CostEffect) -> float | None:
    langs = (effect.lang,) if effect.lang in cost.langs else cost.langs[:1]
    found = [e for lang in langs for e in cost.of(effect.arm, effect.dose, "removal", lang)]
    return found[0].difference if found else None


def _series(key: _Key, cost: Cost) -> Iterator[tuple[str, str | None, list[_Point]]]:
    """Arm, language and points by dose."""
    mine = [e for e in cost.effects if (e.measure, e.name, e.unit) == key and e.difference is not None]
    for arm, lang in dict.fromkeys((e.arm, e.lang) for e in mine):
        points = []
        for effect in mine:
            removed = _removed(cost, effect)
            if (effect.arm, effect.lang) == (arm, lang) and removed is not None:
                points.append(_Point(effect.dose, 100 * removed, effect))
        if points:
            yield arm, lang, sorted(points, key=lambda point: point.dose)


def _panel(axes: Axes, key: _Key, costs: Sequence[Cost]) -> None:
    scale = 100 if key.unit == "share" else 1
    arms, langs = _arms(costs), _langs(costs)
    for cost in costs:
        for arm, lang, points in _series(key, cost):
            look = _line(arms.index(arm))
            colour = look["color"]
            mark = _MARKS[langs.index(lang) % len(_MARKS)] if lang in langs else _MARKS[0]
            x = [point.removed for point in points]
            y = [scale * (point.cost.difference or 0.0) for point in points]
            axes.plot(x, y, linewidth=1.1, **look)
            for point, at in zip(points, y):
                if point.cost.interval95 is not None:
                    low, high = (scale * limit for limit in point.cost.interval95)
                    error = [[max(0.0, at - low)], [max(0.0, high - at)]]
                    axes.errorbar(point.removed, at, error, color=colour, linewidth=0.9, capsize=2)
                face = colour if point.dose == 1.0 else "none"
                axes.plot(point.removed, at, marker=mark, color=colour, markerfacecolor=face, markersize=5.5)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.grid(color=RULE, linewidth=0.6)
    example = next(e for cost in costs for e in cost.effects if (e.measure, e.name, e.unit) == key)
    axes.set_title(fill(plain(named(example)), _TITLE), loc="left")
    axes.set_ylabel({"share": "points", "score": "score"}.get(key.unit, f"{key.unit}"))
