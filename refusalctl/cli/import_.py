"""`refusalctl import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import Session, asks, language_option
from refusalctl.records.rows import KINDS
from refusalctl.stats.selection_rule import PRESETS


@asks(dry_run=False, file=False)
def import_(
    session: Session,
    paths: Annotated[list[Path], typer.Argument(help="Published files, or the folder of one run.", show_default=False)],
    lang: Annotated[
        str | None,
        language_option("--lang", "Language of the prompts, or of the directions; no file says it reliably."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Where the files come from, such as mainlp/Multilingual-Refusal@985169d.")
    ] = "",
    model: Annotated[str, typer.Option(help="Hub id of the model that was run.")] = "imported",
    revision: Annotated[str, typer.Option(help="Its commit, if you know it; needed to ablate imported directions.")] = (
        "unknown"
    ),
    kind: Annotated[str | None, typer.Option(help="harmful or harmless, if the file's name does not say.")] = None,
    condition: Annotated[str | None, typer.Option(help="baseline, ablation, ...; the file's name by default.")] = None,
    direction_lang: Annotated[
        str | None, language_option("--direction-lang", "Language of the direction that was applied.")
    ] = None,
    pos: Annotated[
        int | None,
        typer.Option(help="Position that a .safetensors or .gguf direction was read at, if it does not say: -1."),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Which of several layers of a .safetensors or .gguf file; ours, counted from 0.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="Choose again among the published candidates: arditi or wang.")
    ] = None,
) -> None:
    """Take over published completions, evaluations, directions and labels, marked as imported. Nothing is unpickled.

    Reads the files of andyrdt/refusal_direction, mainlp/Multilingual-Refusal and their forks, and directions as
    safetensors (refusalctl, TransformerLens, nnterp, steering-vectors) or GGUF control vectors (llama.cpp, repeng). All
    files are checked before the first artifact is written.
    """
    if rule is not None and rule not in PRESETS:
        raise typer.BadParameter(f"--rule takes {' or '.join(PRESETS)}, found {rule!r}")
    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"--kind takes {' or '.join(KINDS)}, found {kind!r}")
    found = session.study.import_files(
        paths,
        lang=lang,
        source=source,
        model=model,
        revision=revision,
        kind=next((k for k in KINDS if k == kind), None),
        condition=condition,
        direction_lang=direction_lang,
        pos=pos,
        layer=layer,
        rule=PRESETS[rule] if rule else None,
    )
    for each in found:
        out.success(f"{each.kind} {out.about_line(each.about)}")
    session.finish(*found)
