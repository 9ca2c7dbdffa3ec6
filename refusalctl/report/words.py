"""What a report says in words: names, percentages, and the answer for each target in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from refusalctl.data.languages import name as language_name
from refusalctl.records.report import Answer
from refusalctl.records.transfer import MissingCell, TransferCell
from refusalctl.records.verdict import Verdict
from refusalctl.report.content import Content, Row

_NBSP = "\N{NO-BREAK SPACE}"
MARKS = {"transfers": "✓", "does not transfer": "✕", "reverses": "↺", "inconclusive": "?", "uninformative": "–"}
MANY = 5  # names listed before the rest is counted


def label(lang: str) -> str:
    """`Bashkir (ba)`, or the code alone for a language without a known name."""
    name = language_name(lang)
    return lang if name == lang else f"{name} ({lang})"


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


def measured(verdict: Verdict, what: str = " of refusals") -> str:
    """`removes 45 points of refusals (95 %: 30 to 58)`, with what missing labels leave open and what was lost."""
    does = "removes" if verdict.removed >= 0 else "adds"
    low, high = verdict.interval95 if verdict.removed >= 0 else sorted(-limit for limit in verdict.interval95)
    size = f"{does} {points(abs(verdict.removed))} points{what}"
    return f"{size} (95{_NBSP}%: {points(low)} to {points(high)}{bounds(verdict)})"


def bounds(verdict: Verdict) -> str:
    """`; 38 to 52 by what missing labels may be`; empty where no label is missing that could count."""
    if verdict.least is None or verdict.most is None or verdict.least == verdict.most:
        return ""
    low, high = (verdict.least, verdict.most) if verdict.removed >= 0 else (-verdict.most, -verdict.least)
    return f"; {points(low)} to {points(high)} by what missing labels may be"


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
    """The verdict of one target in one sentence; says so where nothing could be measured."""
    decided = _decided(rows, target)
    moved = [c for c in decided if c.condition == "transferred"]
    main = _main(decided, reference)
    if main is None:
        own = next((verdict for c, verdict in decided.items() if c.condition == "native"), None)
        return _own(target, own) if own else Answer(None, _nothing(rows, target))
    verdict, name = decided[main], language_name(target)
    parts = [f"In {name}, the {language_name(str(main.source))} direction {_SAYS[verdict.value]}"]
    if verdict.value in ("inconclusive", "uninformative"):
        parts.append(f" ({verdict.reason})")
    else:
        parts.append(f"; it {measured(verdict)}")
    if verdict.value == "uninformative" and main.induction is not None:
        parts.append(f"; added to harmless prompts, it {_INDUCES[main.induction.value]}")
    others = _others({str(c.source): each for c, each in decided.items() if c in moved and c is not main})
    return Answer(verdict.value, "".join([*parts, others, "."]))


def brief(rows: Content, target: str, reference: str) -> str:
    """The answer's direction and what it does, in one line beside the verdict."""
    decided = _decided(rows, target)
    main = _main(decided, reference) or next((c for c in decided if c.condition == "native"), None)
    if main is None:
        given = any(isinstance(c, MissingCell) and c.status == "not given" for c in rows.changed(target))
        return "labels of its baseline alone" if given else "nothing was measured"
    whose = "its own direction" if main.condition == "native" else language_name(str(main.source))
    return f"{whose} {measured(decided[main], '')}"


def _decided(rows: Content, target: str) -> dict[TransferCell, Verdict]:
    return {c: c.removal for c in rows.changed(target) if isinstance(c, TransferCell) and c.removal is not None}


def _main(decided: Mapping[TransferCell, Verdict], reference: str) -> TransferCell | None:
    """The transferred cell that an answer is about: of the reference direction, or else the first."""
    moved = [c for c in decided if c.condition == "transferred"]
    return next((c for c in moved if c.source == reference), None) or next(iter(moved), None)


def _others(verdicts: Mapping[str, Verdict]) -> str:
    groups: dict[str, list[str]] = {}
    for source, verdict in verdicts.items():
        groups.setdefault(verdict.value, []).append(language_name(source))
    parts = [f"{v} ({listed(groups[v])})" for v in MARKS if v in groups]
    return f". Other directions: {'; '.join(parts)}" if parts else ""


def _own(target: str, verdict: Verdict) -> Answer:
    text = f"In {language_name(target)} only its own direction was measured: {verdict.value}"
    return Answer(verdict.value, f"{text}; it {measured(verdict)}.")


def _nothing(rows: Content, target: str) -> str | None:
    missing = [c for c in rows.changed(target) if isinstance(c, MissingCell)]
    if len(missing) == len(rows.changed(target)):
        if any(c.status == "not given" for c in missing):
            return f"In {language_name(target)} no direction can be judged: there are labels of its baseline alone."
        return f"In {language_name(target)} nothing was measured: there is no direction."
    return None


def condition_name(row: Row) -> str:
    """What was done, in a few words."""
    if isinstance(row, TransferCell) and row.condition == "baseline":
        return f"Baseline, {row.prompts} prompts"
    name = language_name(str(row.source))
    text = {
        "native": f"Own direction ({row.source}) ablated",
        "transferred": f"{name} direction ablated",
        "affine": f"{name} direction ablated around the harmless mean",
        "induced": f"{name} direction added, harmless prompts",
        "within_class": f"Control direction ({name})",
    }.get(row.condition, f"{row.condition.capitalize()} ({name})")
    told = detail(row)
    return f"{text}, {told}" if told else text


def detail(row: Row) -> str:
    """What tells cells of one source, target and condition apart."""
    if isinstance(row, MissingCell):
        return ""
    parts = {"coefficient": row.coeff, "draw": row.draw}
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


THOUGHTS = {
    "none": "nothing says that this model thinks before it answers",
    "off:template": "off: the chat template asks for answers without thoughts",
    "off:appended": "off: a closed, empty thought is appended to each prompt",
    "on:template": "on: each answer stands behind the model's own thought, which the chat template opens",
    "on:model": "on: answers stand behind the model's own thoughts, where it has one",
}  # by what recipes hold


def thoughts(label: str) -> str:
    """What was done about the model's thoughts. Answers alone are judged."""
    return THOUGHTS.get(label, label)
