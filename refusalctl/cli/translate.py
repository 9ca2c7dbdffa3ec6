"""`refusalctl translate`."""

from __future__ import annotations

from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks


@asks("device")
def translate(
    session: Session,
    completions: Annotated[list[str], typer.Argument(help="Completions artifacts.", show_default=False)],
    translator: Annotated[
        str,
        typer.Option(
            help="nllb or madlad (local; nllb:MODEL for a folder or hub id), google, or deepl (DEEPL_AUTH_KEY)."
        ),
    ],
    code: Annotated[str | None, typer.Option(help="The translator's own code of the language: kaz_Cyrl.")] = None,
) -> None:
    """Translate completions into English, for `judge --text back-translation` (JSONL). No text is printed.

    A text that cannot be translated stays a failure with its reason. Texts are cached in the store; Ctrl-C is safe.
    """
    study = session.study
    written = [study.open_completions(reference) for reference in completions]
    study.check_translator(translator, written, code)
    found = []
    for each in written:
        found.append(study.translations(each, translator, code))
        if not found[-1].planned:
            out.success(f"{out.about_line(each.about)}: {found[-1].summary()}")
    session.finish(*found)
