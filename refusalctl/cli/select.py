"""`refusalctl select`."""

from __future__ import annotations

from refusalctl.cli import out
from refusalctl.cli.session import DRAW, MACHINE, SELECT, LangOption, Session, asks


@asks(*SELECT, *DRAW, *MACHINE)
def select(session: Session, lang: LangOption) -> None:
    """Score every candidate on validation prompts and choose one by a rule; all scores are kept."""
    found = session.study.selection(lang)
    if not found.planned:
        first, *others = found.words()
        out.success(f"{lang}: {first}")
        for line in others:
            out.info(line)
    session.finish(found)
