"""Arms of system prompts: which ones are asked for, and what the setting `system` is in each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from refusalctl.errors import BadInput
from refusalctl.steps.step import Workbench

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
HOW = "give own (what the template does by itself), none, or NAME=TEXT, such as kind='Be kind.'"


class Arm(NamedTuple):
    """One system prompt by its name; `system` is the setting's value, None where the template is told nothing."""

    name: str
    system: str | None


def system_arms(bench: Workbench, given: Sequence[str]) -> list[Arm]:
    """Arms as people name them: `own`, `none` or `NAME=TEXT`, at least two. No weights are read.

    Raises `BadInput` for another form, a name that is given twice, and beside a system prompt of the study itself.
    """
    from refusalctl.model.system_arms import NONE, OWN, system_text

    if bench.machine.system is not None:
        raise BadInput("a system prompt is set, and arms name several", hint="leave the setting `system` out")
    found: list[Arm] = []
    for each in given:
        name, equals, text = each.partition("=")
        if not _NAME.fullmatch(name) or bool(equals) == (name in (OWN, NONE)):
            raise BadInput(f"{each[:40]!r} is no arm", hint=HOW)
        if equals:
            found.append(Arm(name, text))
        else:
            found.append(Arm(name, system_text(bench.small[1].tokenizer, OWN if name == OWN else NONE)))
    names = [arm.name for arm in found]
    if len(found) < 2 or len(set(names)) < len(names):
        raise BadInput(f"arms are {', '.join(names) or 'missing'}, expected at least two different ones", hint=HOW)
    _tell_alike(bench, found)
    return found


def _tell_alike(bench: Workbench, arms: Sequence[Arm]) -> None:
    by_text: dict[str | None, list[str]] = {}
    for arm in arms:
        by_text.setdefault(arm.system, []).append(arm.name)
    for names in by_text.values():
        if len(names) > 1:
            bench.note(f"the arms {' and '.join(names)} are one and the same prompt with this template")


def bench_of(bench: Workbench, arm: Arm) -> Workbench:
    """The same workbench under an arm's system prompt; it shares the loaded weights."""
    return replace(bench, machine=bench.machine.changed(system=arm.system))
