"""Judges: completions to outcomes. One file each, behind `protocol.Judge`."""

from __future__ import annotations

from refusalctl.errors import BadInput
from refusalctl.model.judges.protocol import Judge
from refusalctl.model.judges.substring import SubstringJudge

NAMES = ("substring",)


def judge_named(name: str) -> Judge:
    """Raises `BadInput` for a name that is no judge."""
    if name not in NAMES:
        raise BadInput(f"there is no judge {name!r}", hint=f"known: {', '.join(NAMES)}")
    return SubstringJudge()
