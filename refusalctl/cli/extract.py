"""`refusalctl extract`."""

from __future__ import annotations

from refusalctl.cli.session import DRAW, MACHINE, LangOption, Session, asks


@asks("n_train", "positions", *DRAW, *MACHINE)
def extract(session: Session, lang: LangOption) -> None:
    """Compute candidate directions of one language, harmful mean minus harmless mean, everywhere (safetensors)."""
    session.finish(session.study.directions(lang))
