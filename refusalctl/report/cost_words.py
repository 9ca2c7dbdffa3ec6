"""A cost panel in words and rows: what is removed and what it costs, in one line per arm and language."""

from __future__ import annotations

from collections.abc import Iterable

from refusalctl.data.languages import name as language_name
from refusalctl.records.cost import MEASURES, Cost, CostEffect, MatchedDose, Measure
from refusalctl.records.estimates import Interval
from refusalctl.report.words import points

_NBSP, _MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"
FULL = 1.0
MEASURED: dict[Measure, str] = {
    "removal": "refusals removed",
    "kl": "KL, harmless prompts",
    "task": "lm-eval",
    "text": "loss, text",
    "own": "loss, own answers",
    "safe": "safe prompts refused",
    "unsafe": "unsafe prompts refused",
    "off-target": "off-target",
}
COLUMNS = ("arm", "dose", "measure", "of", "lang", "n", "before", "after", "difference", "95 %", "p")


def named(effect: CostEffect) -> str:
    """What was measured, with the set, text or task where that is not the experiment's own prompts."""
    if effect.measure in ("removal", "kl", "own"):
        return MEASURED[effect.measure]
    if effect.measure == "off-target":
        return f"off-target ({effect.name})"
    return f"{MEASURED[effect.measure]} ({effect.name})" if effect.measure != "task" else effect.name


def number(value: float | None, unit: str, *, sign: bool = False) -> str:
    """Points for shares, else three decimals; empty where nothing was measured."""
    if value is None:
        return ""
    text = points(value) if unit == "share" else f"{value:.3f}".replace("-", _MINUS)
    if text.strip(f"{_MINUS}0.") == "":
        return text.removeprefix(_MINUS)
    return f"+{text}" if sign and not text.startswith(_MINUS) else text


def limits(found: Interval | None, unit: str) -> str:
    return "" if found is None else f"{number(found.low, unit)} to {number(found.high, unit)}"


def told(effect: CostEffect) -> str:
    """`KL, harmless prompts 0.084 nats (0.050 to 0.118)`."""
    if effect.difference is None:
        return f"{named(effect)} not measured: {effect.why}"
    unit = "points" if effect.unit == "share" else "" if effect.unit == "score" else effect.unit
    signs = effect.measure not in ("removal", "kl")
    size = f"{number(effect.difference, effect.unit, sign=signs)}{_NBSP}{unit}".rstrip(_NBSP)
    ranged = limits(effect.interval95, effect.unit)
    return f"{named(effect)} {size}" + (f" ({ranged})" if ranged else "")


def line(cost: Cost, arm: str, lang: str | None, dose: float = FULL) -> str | None:
    """Removal and cost of one arm in one language in one line, 95 % limits in brackets; None where nothing is known.

    Tasks stand in every language's line: they know none. Loss is told per token.
    """
    mine = [e for e in cost.of(arm, dose) if e.unit != "nats/byte" and (e.lang == lang or e.lang is None)]
    if not mine:
        return None
    removed = [e for e in mine if e.measure == "removal"]
    others = [e for e in mine if e.measure != "removal"]
    at = "" if dose == FULL else f" at dose {dose:g}"
    where = f" in {language_name(lang)}" if lang else ""
    first = told(removed[0]) if removed else "removal not measured"
    return f"{arm}{at}{where}: {first}; cost: {'; '.join(map(told, others)) if others else 'not measured'}"


def sentences(cost: Cost) -> list[str]:
    """A line per arm and language at full dose, then the matched doses, then what was not measured."""
    lines = [line(cost, arm.name, lang) for arm in cost.arms for lang in cost.langs]
    lines += [matched(cost, each) for each in cost.matches if each.dose != FULL or each.asked]
    lines += [f"{arm.name}: {arm.no_ladder}" for arm in cost.arms if arm.no_ladder]
    lacking = (
        f"not measured: {MEASURED[u.measure]} {u.name}, {u.lang or 'no language'}: {u.why}" for u in cost.unmeasured
    )
    return [each for each in (*lines, *lacking) if each]


def level(match: MatchedDose) -> str:
    value = (
        f"at least {points(match.level)} points removed"
        if match.by == "removal"
        else f"KL at most {match.level:.3f} nats"
    )
    return f"{value} ({'asked for' if match.asked else 'the least of all full doses'})"


def matched(cost: Cost, match: MatchedDose) -> str | None:
    """`matched, at least 45 points removed (asked for): ablate en at dose 0.5 in English: ...`"""
    head = f"matched, {level(match)}"
    if match.dose is None:
        said = "no measured dose of {} reaches it" if match.by == "removal" else "every measured dose of {} exceeds it"
        return f"{head}: {said.format(match.arm)} in {language_name(match.lang)}"
    found = line(cost, match.arm, match.lang, match.dose)
    return None if found is None else f"{head}: {found}"


def effect_row(effect: CostEffect) -> dict[str, object]:
    """One effect as a row, numbers as they are."""
    low, high = effect.interval95 or (None, None)
    return {
        "arm": effect.arm,
        "dose": effect.dose,
        "measure": effect.measure,
        "name": effect.name,
        "lang": effect.lang,
        "unit": effect.unit,
        "n": effect.n,
        "before": effect.before,
        "after": effect.after,
        "difference": effect.difference,
        "low": low,
        "high": high,
        "forth": effect.forth,
        "back": effect.back,
        "p": effect.p,
        "missing": effect.missing,
        "why": effect.why,
    }


def shown_row(effect: CostEffect) -> tuple[str, ...]:
    """One effect for the eye, under `COLUMNS`."""
    unit = effect.unit
    return (
        effect.arm,
        f"{effect.dose:g}",
        MEASURED[effect.measure] + ("" if unit == "share" else f", {unit}"),
        effect.name,
        effect.lang or "",
        str(effect.n),
        number(effect.before, unit),
        number(effect.after, unit),
        number(effect.difference, unit, sign=True) if effect.difference is not None else str(effect.why or ""),
        limits(effect.interval95, unit),
        "" if effect.p is None else f"{effect.p:.2g}",
    )


def in_order(effects: Iterable[CostEffect]) -> list[CostEffect]:
    """By measure, then as the panel holds them: arms and doses of one measure stand together."""
    return sorted(effects, key=lambda e: (MEASURES.index(e.measure), e.name, e.lang or "", e.unit))
