"""`refusalctl collect`."""

from __future__ import annotations

from typing import Annotated

import typer

from refusalctl.cli.session import DRAW, MACHINE, LangOption, Session, asks, with_values
from refusalctl.records.rows import KINDS, Kind, Split


@asks("positions", *DRAW, *MACHINE)
def collect(
    session: Session,
    lang: LangOption,
    kind: Annotated[Kind | None, typer.Option(help="Prompt class: harmful or harmless; both by default.")] = None,
    split: Annotated[Split, typer.Option(help="Split: train, val or test.")] = "train",
    n: Annotated[int | None, typer.Option(min=1, help="How many prompts; by default all, up to 128.")] = None,
) -> None:
    """Record resid_pre of every prompt at every layer, at the end-of-instruction positions (HDF5)."""
    study = with_values(session, [(f"n_{split}", n)]).study
    session.finish(*(study.activations(lang, each, split) for each in ((kind,) if kind else KINDS)))
