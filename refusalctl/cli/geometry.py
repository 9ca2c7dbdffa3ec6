"""`refusalctl geometry`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refusalctl.cli import out
from refusalctl.cli.session import DRAW, MACHINE, Session, asks, language_option, languages, numbers
from refusalctl.settings import GeometrySettings

_DEFAULT = GeometrySettings()

if TYPE_CHECKING:
    from refusalctl.results import Geometry


@asks("n_train", "positions", *DRAW, *MACHINE)
def geometry(
    session: Session,
    langs: Annotated[str, typer.Option(help="Languages to compare, such as en,be,ba.")],
    reference: Annotated[
        str | None,
        language_option("--reference", "Language whose direction the others are projected on; the first by default."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="POSITION,LAYER such as -1,19; the most reliable place by default.")
    ] = None,
    halves: Annotated[int, typer.Option(min=1, help="Random splits behind the noise ceiling.")] = _DEFAULT.halves,
    permutations: Annotated[
        int, typer.Option(min=1, help="Shuffles of the labels behind each p.")
    ] = _DEFAULT.permutations,
    components: Annotated[int, typer.Option(min=1, help="Dimensions of the compared subspaces.")] = _DEFAULT.components,
) -> None:
    """Measure how alike the languages' directions are, beside their noise ceiling and chance."""
    named = languages(langs)
    place = numbers(at, "--at")
    if place is not None and len(place) != 2:
        raise typer.BadParameter(f"--at takes one position and one layer such as -1,19, found {at!r}")
    found = session.study.geometry(
        named,
        reference=reference,
        at=(place[0], place[1]) if place else None,
        halves=halves,
        permutations=permutations,
        components=components,
    )
    if not found.planned:
        show_pairs(found)
    session.finish(found)


def show_pairs(found: Geometry) -> None:
    """Cosines at the refusal place, on stderr."""
    out.info(f"refusal direction at position {found.pos}, layer {found.layer}")
    rows = [
        (f"{p.a} {p.b}", *map(_number, (p.cosine, p.ceiling, p.disattenuated, p.null_95, p.p_by))) for p in found.pairs
    ]
    out.table_err(("languages", "cosine", "ceiling", "disattenuated", "null 95 %", "p (FDR-BY)"), rows)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
