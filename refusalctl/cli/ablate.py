"""`refusalctl ablate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refusalctl.cli import out
from refusalctl.cli.session import DRAW, MACHINE, LangOption, Session, asks, numbers, with_values
from refusalctl.records.rows import Kind, Split

if TYPE_CHECKING:
    from refusalctl.study import Study

Asked = Literal["none", "ablate", "add", "affine", "subspace"]


@asks("max_new_tokens", "max_think_tokens", *DRAW, *MACHINE)
def ablate(
    session: Session,
    lang: LangOption,
    direction: Annotated[
        list[str] | None,
        typer.Option(help="A selection, a subspace, or one of several directions (REF@POS,LAYER); repeatable."),
    ] = None,
    intervention: Annotated[
        Asked | None,
        typer.Option(help="By default ablate with one direction, subspace with several, else none."),
    ] = None,
    coeff: Annotated[float, typer.Option(help="Coefficient of an addition; negative pushes away from refusal.")] = 1.0,
    pos: Annotated[int | None, typer.Option(help="Position, for a directions artifact.")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer, for a directions artifact.")] = None,
    at_layers: Annotated[
        str | None,
        typer.Option(help="Act only at these layers, such as 8,12 or 4:24; all by default (add: own layer)."),
    ] = None,
    at_positions: Annotated[
        str | None,
        typer.Option(help="Act only at these tokens, such as -1,-5, or eoi (end-of-instruction); all by default."),
    ] = None,
    kind: Annotated[Kind, typer.Option(help="Prompt class: harmful or harmless.")] = "harmful",
    split: Annotated[Split, typer.Option(help="Split: train, val or test.")] = "test",
    n: Annotated[int | None, typer.Option(min=1, help="How many prompts; all by default.")] = None,
) -> None:
    """Write greedy answers under one intervention (ablation, addition, affine, subspace), or under none (JSONL)."""
    study = with_values(session, [(f"n_{split}", n)]).study
    named = [_named(text) for text in direction or ()]
    layers, positions = numbers(at_layers, "--at-layers"), _positions(study, at_positions, named)
    spec = study.intervention(named, intervention, coeff, pos, layer, layers, positions)
    out.info(f"{lang} {kind} {split}: {spec.describe()}")
    session.finish(study.completions(lang, spec, kind=kind, split=split))


def _named(text: str) -> tuple[str, tuple[int, int] | None]:
    """`REF` or `REF@POS,LAYER`."""
    reference, marked, place = text.partition("@")
    if not marked:
        return reference, None
    at = numbers(place, "--direction REF@POS,LAYER") or []
    if len(at) != 2:
        raise typer.BadParameter(f"--direction takes REF@POS,LAYER such as {reference}@-1,12, found {text!r}")
    return reference, (at[0], at[1])


def _positions(study: Study, text: str | None, named: list[tuple[str, tuple[int, int] | None]]) -> list[int] | None:
    if text == "eoi" and named:
        return study.end_of_instruction(named[0][0])
    return numbers(text, "--at-positions")
