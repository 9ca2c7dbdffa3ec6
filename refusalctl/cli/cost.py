"""`refusalctl cost`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import out
from refusalctl.cli.session import DRAW, MACHINE, Session, asks, languages, numbers
from refusalctl.records.rows import KINDS

if TYPE_CHECKING:
    from refusalctl.interventions import Intervention
    from refusalctl.results import Cost
    from refusalctl.steps.costs.panel import Behaviour
    from refusalctl.study import Study

DOSES = "0.25,0.5,0.75,1"


@asks("n_test", "max_new_tokens", "max_think_tokens", "judge", *DRAW, *MACHINE, probe=True)
def cost(
    session: Session,
    arms: Annotated[
        list[str],
        typer.Argument(
            metavar="INTERVENTION...",
            help="KIND:REF, such as ablate:REF, add=-1:REF, affine:REF, subspace:REF+REF. REF is a selection, a "
            "subspace, or REF@POS,LAYER of directions. Several are compared.",
        ),
    ],
    langs: Annotated[
        str | None, typer.Option("--langs", help="Languages to measure in; those of the directions by default.")
    ] = None,
    doses: Annotated[
        str, typer.Option(help="Shares of an ablation, multiples of an addition; 1 is always measured.")
    ] = DOSES,
    task: Annotated[
        list[str] | None, typer.Option(help="An lm-eval task: its name, or the path of its YAML file. Repeatable.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Items of each task, the first ones; all by default.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Put the tasks' requests into the chat template.")] = False,
    text: Annotated[
        list[str] | None,
        typer.Option(help="LANG=FILE: text to predict, paragraphs or JSON lines with 'text'. Repeatable."),
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="A prompt set whose harmless prompts look harmful (over-refusal). Repeatable."),
    ] = None,
    off_target: Annotated[
        list[str] | None,
        typer.Option(
            help="SET[:KIND]=FILE|JUDGE: share of answers with one of the file's phrases, or refused by the judge."
        ),
    ] = None,
    match_removal: Annotated[
        float | None, typer.Option(help="Compare at this share of refusals removed, such as 0.5.")
    ] = None,
    match_kl: Annotated[float | None, typer.Option(help="Compare at this KL, in nats.")] = None,
) -> None:
    """Measure what interventions break beside what they remove: KL, loss, lm-eval tasks, over-refusal; all paired."""
    study = session.study
    found = study.cost(
        [_intervention(study, arm) for arm in arms],
        langs=languages(langs) if langs else None,
        doses=_doses(doses),
        tasks=task or (),
        limit=limit,
        chat=chat,
        texts=[_text(each) for each in text or ()],
        contrasts=contrast or (),
        behaviours=[_behaviour(each) for each in off_target or ()],
        match_removal=match_removal,
        match_kl=match_kl,
    )
    if not found.planned:
        show(found)
    session.finish(found, forecast=True)


def show(found: Cost) -> None:
    """Every effect at full dose, and the lines that sum up; on stderr."""
    from refusalctl.report.cost_words import COLUMNS, FULL, in_order, shown_row

    rows = [shown_row(each) for each in in_order(e for e in found.record.effects if e.dose == FULL)]
    out.table_err(COLUMNS, rows, right=("n", "before", "after", "difference"))
    for sentence in found.words():
        out.info(sentence)


def _intervention(study: Study, text: str) -> Intervention:
    """`KIND[=COEFF]:REF[@POS,LAYER][+REF...]`."""
    from refusalctl.model.intervention_words import KINDS as INTERVENTIONS

    head, marked, named = text.partition(":")
    kind, has_coeff, coeff = head.partition("=")
    if not marked or kind not in INTERVENTIONS or kind == "none" or not named:
        raise typer.BadParameter(f"an intervention is KIND:REF such as ablate:REF or add=-1:REF, found {text!r}")
    try:
        size = float(coeff) if has_coeff else 1.0
    except ValueError as error:
        raise typer.BadParameter(f"the coefficient in {text!r} is no number") from error
    return study.intervention([_reference(each) for each in named.split("+")], kind, size)


def _reference(text: str) -> tuple[str, tuple[int, int] | None]:
    reference, marked, place = text.partition("@")
    if not marked:
        return reference, None
    at = numbers(place, "REF@POS,LAYER") or []
    if len(at) != 2:
        raise typer.BadParameter(f"a place is REF@POS,LAYER such as {reference}@-1,12, found {text!r}")
    return reference, (at[0], at[1])


def _doses(text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--doses takes numbers such as {DOSES}, found {text!r}") from error


def _text(given: str) -> tuple[str, Path]:
    lang, marked, path = given.partition("=")
    if not marked or not path:
        raise typer.BadParameter(f"--text takes LANG=FILE such as en=news.txt, found {given!r}")
    return lang, Path(path).expanduser()


def _behaviour(given: str) -> Behaviour:
    """A file of phrases, one a line, where there is one; else a judge."""
    from refusalctl.data.file_bytes import decode, read_bytes
    from refusalctl.steps.costs.panel import Behaviour

    named, marked, by = given.partition("=")
    data, has_kind, kind = named.partition(":")
    if not marked or not by or not data or (has_kind and kind not in KINDS):
        raise typer.BadParameter(f"--off-target takes SET[:harmful|harmless]=FILE|JUDGE, found {given!r}")
    chosen: Any = kind or "harmless"
    path = Path(by).expanduser()
    if not path.is_file():
        return Behaviour(data, chosen, None, by)
    phrases = tuple(line.strip() for line in decode(read_bytes(path)).splitlines() if line.strip())
    if not phrases:
        raise typer.BadParameter(f"{path.name} holds no phrase", param_hint="--off-target")
    return Behaviour(data, chosen, phrases, label=path.name)
