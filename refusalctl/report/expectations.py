"""What somebody expects of a transfer, as `en>de=transfers`, and whether its verdicts say so.

An expectation about several cells holds where it holds for each. A verdict that decides nothing (`inconclusive`,
`uninformative`), or a cell that was not measured, meets no expectation and breaks none unless it is named: it leaves
the expectation undecided.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from refusalctl.errors import BadInput
from refusalctl.records.gate import GateCheck, GateState
from refusalctl.records.transfer import Transfer
from refusalctl.records.verdict import VERDICTS, Verdict, VerdictValue

Question = Literal["removal", "induction"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
UNDECIDED: tuple[VerdictValue, ...] = ("inconclusive", "uninformative")
FORM = "write SOURCE>TARGET=VERDICT, such as 'en>de=transfers', 'en>*!=reverses' or 'induction:en>de=transfers'"
_WRITTEN = re.compile(r"(?:(?P<question>\w+)\s*:)?(?P<source>[^>=!]+)>(?P<target>[^>=!]+?)(?P<sign>!=|==?)(?P<rest>.+)")


class Expectation(NamedTuple):
    """One expectation. `source` or `target` may be `*`: every other language; `negated`: none of `verdicts`."""

    text: str
    question: Question
    source: str
    target: str
    negated: bool
    verdicts: tuple[VerdictValue, ...]


def parse(text: str) -> Expectation:
    """`[removal:|induction:]SOURCE>TARGET=VERDICT[|VERDICT...]`, or `!=`. Raises `BadInput` for anything else.

    Hyphens and underscores in a verdict stand for spaces, and case does not count.
    """
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"{text!r} is no expectation", hint=FORM)
    question = next((q for q in QUESTIONS if q == (found["question"] or "removal").strip().lower()), None)
    if question is None:
        raise BadInput(f"{text!r} asks about {found['question']!r}, expected {' or '.join(QUESTIONS)}", hint=FORM)
    verdicts = tuple(_verdict(each, text) for each in found["rest"].split("|"))
    source, target = found["source"].strip(), found["target"].strip()
    return Expectation(text.strip(), question, source, target, found["sign"] == "!=", verdicts)


def _verdict(written: str, text: str) -> VerdictValue:
    plain = " ".join(written.replace("-", " ").replace("_", " ").lower().split())
    known = next((value for value in VERDICTS if value == plain), None)
    if known is None:
        near = difflib.get_close_matches(plain, VERDICTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"verdicts: {', '.join(VERDICTS)}"
        raise BadInput(f"{text!r}: there is no verdict {written.strip()!r}", hint=hint)
    return known


def check(matrix: Transfer, expected: Iterable[Expectation]) -> tuple[GateCheck, ...]:
    """Every cell that the expectations are about, in their order. Raises `BadInput` for a language or pair that the
    transfer has not, or a question that it did not ask: a misspelt expectation would hold for ever."""
    return tuple(_checked(matrix, each, *pair) for each in expected for pair in _pairs(matrix, each))


def overall(checks: Sequence[GateCheck]) -> GateState:
    """`not met` where one expectation is broken, else `undecided` where one is open, else `met`."""
    states = {each.state for each in checks}
    return "not met" if "not met" in states else "undecided" if "undecided" in states else "met"


def _pairs(matrix: Transfer, expected: Expectation) -> list[tuple[str, str]]:
    sources, targets = _languages(matrix)
    named = [
        expected.source not in ("*", *sources) and (expected.source, sources, "a source"),
        expected.target not in ("*", *targets) and (expected.target, targets, "a target"),
    ]
    own = expected.source == expected.target != "*" and expected.target in targets  # its own direction is always taken
    for lacking in named:
        if lacking and not own:
            lang, there, role = lacking
            raise BadInput(
                f"{expected.text!r}: {lang!r} is not {role} of this transfer", hint=f"it has {', '.join(there)}"
            )
    if own:
        return [(expected.source, expected.target)]
    found = [
        (source, target)
        for source in (sources if expected.source == "*" else (expected.source,))
        for target in (targets if expected.target == "*" else (expected.target,))
        if source != target
    ]
    if not found:
        raise BadInput(f"{expected.text!r} is about no pair of this transfer", hint="'*' means every other language")
    return found


def _languages(matrix: Transfer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sources and targets that were asked for; of imported labels, those that they have."""

    def asked(name: str, found: Iterable[str | None]) -> tuple[str, ...]:
        given = matrix.settings.get(name)
        listed = given if isinstance(given, tuple) else ()
        return tuple(dict.fromkeys([*listed, *(each for each in found if each is not None)]))

    sources = asked("sources", [c.source for c in matrix.cells if c.condition == "transferred"])
    return sources, asked("targets", matrix.targets)


def _checked(matrix: Transfer, expected: Expectation, source: str, target: str) -> GateCheck:
    name = f"{source}>{target}{'!=' if expected.negated else '='}{'|'.join(expected.verdicts)}"
    verdict, reason = _measured(matrix, expected, source, target)
    value = None if verdict is None else verdict.value
    return GateCheck(
        name if expected.question == "removal" else f"{expected.question}:{name}",
        expected.question,
        source,
        target,
        value,
        _state(value, expected),
        reason if verdict is None else verdict.reason,
        None if verdict is None else verdict.removed,
        None if verdict is None else verdict.interval95,
    )


def _state(value: VerdictValue | None, expected: Expectation) -> GateState:
    if value is None:
        return "undecided"
    if value in expected.verdicts:
        return "not met" if expected.negated else "met"
    if value in UNDECIDED:  # an open question is no evidence, for the expectation or against it
        return "undecided"
    return "met" if expected.negated else "not met"


def _measured(matrix: Transfer, expected: Expectation, source: str, target: str) -> tuple[Verdict | None, str]:
    """The verdict asked about; None with the reason where there is none."""
    if expected.question == "induction" and not any(c.induction is not None for c in matrix.cells):
        raise BadInput(
            f"{expected.text!r}: this transfer did not add directions to harmless prompts",
            hint="run it with --induce, or leave the expectation out",
        )
    cell = matrix.ablation(source, target)
    if cell is None:
        return None, matrix.no_direction.get(source) or "this cell was not measured"
    found = cell.removal if expected.question == "removal" else cell.induction
    return found, "" if found is not None else "this cell has no verdict"
