"""`refusalctl ablate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out
from refusalctl.records.rows import Kind, Split
from refusalctl.store.store import Store

if TYPE_CHECKING:
    from refusalctl.steps.interventions import Source


def ablate(
    lang: o.LangOption,
    direction: Annotated[
        list[str] | None,
        typer.Option(help="A selection, subspace or directions artifact (REF@POS,LAYER); repeat it for a span."),
    ] = None,
    intervention: Annotated[
        Literal["none", "ablate", "add", "affine", "subspace"] | None,
        typer.Option(help="ablate with one direction, subspace with several, else none."),
    ] = None,
    coeff: Annotated[float, typer.Option(help="Coefficient of an addition; negative pushes away from refusal.")] = 1.0,
    pos: Annotated[int | None, typer.Option(help="Position, for a directions artifact.")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer, for a directions artifact.")] = None,
    at_layers: Annotated[
        str | None, typer.Option(help="Act only there, such as 8,12 or 4:24; by default everywhere (add: own layer).")
    ] = None,
    at_positions: Annotated[
        str | None, typer.Option(help="Act only there, such as -1,-5, or eoi (end-of-instruction); all by default.")
    ] = None,
    kind: Annotated[Kind, typer.Option(help="Prompt class.")] = "harmful",
    split: Annotated[Split, typer.Option(help="Which split.")] = "test",
    n: Annotated[int | None, typer.Option(min=1, help="How many prompts; all by default.")] = None,
    max_new_tokens: o.TokensOption = 64,
    data: o.DataOption = "sample",
    seed: o.SeedOption = 0,
    model: o.ModelOption = o.DEFAULT_MODEL,
    store: o.StoreOption = o.DEFAULT_STORE,
    device: o.DeviceOption = "auto",
    dtype: o.DTypeOption = "auto",
    attention: o.AttentionOption = "auto",
    batch_size: o.BatchOption = o.DEFAULT_BATCH,
    system: o.SystemOption = None,
    trust_remote_code: o.TrustOption = False,
    name: o.NameOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
) -> None:
    """Greedy completions under one intervention (ablation, addition, affine, subspace) or none; resumes (JSONL)."""
    from refusalctl.steps.completions import write_completions
    from refusalctl.steps.interventions import InterventionSpec
    from refusalctl.steps.prompts import draw_prompts

    experiment = o.experiment(data=data, seed=seed, **{f"n_{split}": n})
    bench = o.workbench(
        store, model, device=device, dtype=dtype, attention=attention, batch_size=batch_size,
        system=system, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    sources = _sources(bench.store, direction or [], pos, layer)
    first = sources[0] if sources else None
    asked = intervention or ("subspace" if _several(sources) else "ablate" if sources else "none")
    spec = InterventionSpec(
        asked,
        first.artifact if first else None,
        first.pos if first else pos,
        first.layer if first else layer,
        coeff,
        layers=_numbers(at_layers, "--at-layers"),
        positions=_positions(at_positions, first),
        others=tuple(sources[1:]),
    )
    spec.check(bench)
    chosen = draw_prompts(bench, experiment, lang, kind, split)
    out.info(f"{lang} {kind} {split}: {spec.describe()}")
    o.finish(bench, [write_completions(bench, chosen, spec, max_new_tokens)], name=name, json=json)


def _sources(store: Store, references: list[str], pos: int | None, layer: int | None) -> list[Source]:
    """`REF` or `REF@POS,LAYER`, each; `--pos` and `--layer` are those of every directions artifact that names none."""
    from refusalctl.steps.interventions import Source

    found = []
    for text in references:
        reference, marked, place = text.partition("@")
        artifact = store.resolve(reference)
        if marked:
            at = o.numbers(place, "--direction REF@POS,LAYER") or []
            if len(at) != 2:
                raise typer.BadParameter(f"--direction takes REF@POS,LAYER such as {reference}@-1,12, found {text!r}")
            found.append(Source(artifact, at[0], at[1]))
        elif artifact.kind == "directions" or len(references) == 1:
            found.append(Source(artifact, pos, layer))
        else:
            found.append(Source(artifact))
    return found


def _several(sources: list[Source]) -> bool:
    return len(sources) > 1 or any(source.artifact.kind == "subspace" for source in sources)


def _numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    found = o.numbers(text, option)
    return None if found is None else tuple(found)


def _positions(text: str | None, first: Source | None) -> tuple[int, ...] | None:
    from refusalctl.steps.interventions import end_of_instruction

    if text == "eoi" and first is not None:
        return end_of_instruction(first.artifact)
    return _numbers(text, "--at-positions")
