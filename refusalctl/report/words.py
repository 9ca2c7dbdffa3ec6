"""What a report says in words: names, percentages, obstacles, and the answer for each target in one sentence."""

from __future__ import annotations

from typing import NamedTuple

from refusalctl.data.languages import name as language_name
from refusalctl.report.rows import REMOVABLE, SPOILED, Condition, Content, Missing, Verdict

_NBSP = "\N{NO-BREAK SPACE}"
MARKS = {"transfers": "✓", "does not transfer": "✕", "reverses": "↺", "inconclusive": "?", "uninformative": "–"}
MANY = 5  # names listed before the rest is counted


def label(lang: str) -> str:
    """`Bashkir (ba)`, or the code alone for a language without a known name."""
    name = language_name(lang)
    return lang if name == lang else f"{name} ({lang})"


def obstacles(rows: Content, row: Condition) -> list[str]:
    """Reasons why a condition tells nothing about its direction, in words; none where it does."""
    base = rows.baseline(row.target)
    rate, found = base.rate("refusal"), []
    if rate is None:
        found.append("no baseline answer could be labelled")
    elif rate.wilson().high < REMOVABLE:
        found.append(
            f"the baseline refuses too little: at most {percent(rate.wilson().high)} (upper 95 % limit), "
            f"so there are fewer than {REMOVABLE * 100:.0f} points to remove"
        )
    for which, each in (("baseline", base), ("changed", row)):
        if (which == "baseline" or each is not base) and each.spoiled > SPOILED:
            what = "baseline answers" if which == "baseline" else "answers under this direction"
            found.append(f"{percent(each.spoiled)} of the {what} are degenerate or unparsed")
    return found


def percent(value: float) -> str:
    """Whole percent; never 0 % or 100 % for a share that is not."""
    if 0 < value < 0.005:
        return f"< 1{_NBSP}%"
    if 0.995 < value < 1:
        return f"> 99{_NBSP}%"
    return f"{value * 100:.0f}{_NBSP}%"


def points(value: float) -> str:
    """Whole percentage points with a sign that a screen reader says."""
    return f"{value * 100:.0f}".replace("-", "−")


def signed(value: float) -> str:
    """`+12`, `−3` or `0`."""
    text = points(value)
    return text if text in ("0", "−0") or text.startswith("−") else f"+{text}"


def listed(names: list[str]) -> str:
    """`English, German and 3 more`."""
    if len(names) > MANY + 1:
        names = [*names[:MANY], f"{len(names) - MANY} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class Answer(NamedTuple):
    """One target's answer: the verdict that the page is marked with, and a sentence; None where nothing was judged."""

    value: str | None
    sentence: str | None


def measured(verdict: Verdict) -> str:
    """`removes 45 points of refusals (95 %: 30 to 58)`, or nothing where there is no estimate."""
    if verdict.removed is None:
        return ""
    what = "removes" if verdict.removed >= 0 else "adds"
    found = f"{what} {points(abs(verdict.removed))} points of refusals"
    if verdict.interval95 is None:
        return found
    low, high = sorted(verdict.interval95) if verdict.removed >= 0 else sorted(-v for v in verdict.interval95)
    return f"{found} (95{_NBSP}%: {points(low)} to {points(high)})"


_SAYS = {
    "transfers": "transfers",
    "does not transfer": "does not transfer",
    "reverses": "makes the model refuse more",
    "inconclusive": "may or may not transfer: this experiment cannot tell",
    "uninformative": "cannot be tested here",
}
_INDUCES = {
    "transfers": "makes the model refuse them: the direction acts here",
    "does not transfer": "does not make the model refuse them",
    "reverses": "makes the model refuse them less",
    "inconclusive": "leaves it open whether the direction acts here",
    "uninformative": "tells nothing either",
}


def answer(rows: Content, target: str, reference: str) -> Answer:
    """The verdict of one target in one sentence; says so where the transfer holds none."""
    found = [c for c in rows.changed(target) if isinstance(c, Condition) and c.verdict is not None]
    moved = [c for c in found if c.condition == "transferred"]
    main = next((c for c in moved if c.source == reference), None) or next(iter(moved), None)
    if main is None:
        own = next((c for c in found if c.condition == "native"), None)
        return _own(target, own) if own else Answer(None, _no_verdict(rows, target))
    verdict = main.verdict
    assert verdict is not None
    name = language_name(target)
    said = [f"In {name}, the {language_name(str(main.source))} direction {_SAYS[verdict.value]}"]
    if verdict.value in ("inconclusive", "uninformative"):
        said.append(f" ({verdict.reason})")
    elif size := measured(verdict):
        said.append(f"; it {size}")
    if verdict.value == "uninformative" and main.induction is not None:
        said.append(f"; added to harmless prompts, it {_INDUCES[main.induction.value]}")
    others = _others([c for c in moved if c is not main])
    return Answer(verdict.value, "".join([*said, others, "."]))


def _others(rows: list[Condition]) -> str:
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict is not None:
            groups.setdefault(row.verdict.value, []).append(language_name(str(row.source)))
    parts = [f"{v} ({listed(groups[v])})" for v in MARKS if v in groups]
    return f". Other directions: {'; '.join(parts)}" if parts else ""


def _own(target: str, row: Condition) -> Answer:
    assert row.verdict is not None
    size = measured(row.verdict)
    text = f"In {language_name(target)} only its own direction was measured: {row.verdict.value}"
    return Answer(row.verdict.value, f"{text}{f'; it {size}' if size else ''}.")


def _no_verdict(rows: Content, target: str) -> str | None:
    if all(isinstance(c, Missing) for c in rows.changed(target)):
        return f"In {language_name(target)} nothing was measured: there is no direction."
    return None


def condition_name(row: Condition | Missing) -> str:
    """What was done, in a few words."""
    if row.condition == "baseline":
        return f"Baseline, {row.prompts if isinstance(row, Condition) else 'harmful'} prompts"
    if row.condition == "native":
        name = f"Own direction ({row.source}) ablated"
    elif row.condition == "transferred":
        name = f"{language_name(str(row.source))} direction ablated"
    elif row.condition == "induced":
        name = f"{language_name(str(row.source))} direction added, harmless prompts"
    else:
        whose = f" ({language_name(row.source)})" if row.source else ""
        name = f"{row.condition.replace('_', ' ').capitalize()}{whose}"
    detail = row.detail if isinstance(row, Condition) else ""
    return f"{name}, {detail}" if detail else name
