"""`refusalctl ablate`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out
from refusalctl.data.records import Kind, Split


def ablate(
    lang: o.LangOption,
    direction: Annotated[str | None, typer.Option(help="A selection or directions artifact.")] = None,
    intervention: Annotated[
        Literal["none", "ablate", "add"] | None, typer.Option(help="ablate with a direction, else none.")
    ] = None,
    coeff: Annotated[float, typer.Option(help="Coefficient of an addition.")] = 1.0,
    pos: Annotated[int | None, typer.Option(help="Position, for a directions artifact.")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer, for a directions artifact.")] = None,
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
    batch_size: o.BatchOption = 16,
    system: o.SystemOption = None,
    trust_remote_code: o.TrustOption = False,
    name: o.NameOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
) -> None:
    """Greedy completions with a direction ablated or added, or without intervention; resumes mid-way (JSONL)."""
    from refusalctl.steps.completions import InterventionSpec, completions
    from refusalctl.steps.prompts import prompts

    experiment = o.experiment(data=data, seed=seed, **{f"n_{split}": n})
    bench = o.workbench(
        store, model, device=device, dtype=dtype, attention=attention, batch_size=batch_size,
        system=system, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    asked = intervention or ("none" if direction is None else "ablate")
    source = bench.store.resolve(direction) if direction is not None else None
    spec = InterventionSpec(asked, source, pos, layer, coeff)
    spec.check(bench)
    chosen = prompts(bench, experiment, lang, kind, split)
    if source is not None:
        out.info(f"{asked} {source.label} ({source.about['lang']}) on {lang} {kind} {split}, coeff {coeff:g}")
    o.finish(bench, [completions(bench, chosen, spec, max_new_tokens)], name=name, json=json)
