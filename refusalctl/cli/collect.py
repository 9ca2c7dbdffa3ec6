"""`refusalctl collect`."""

from __future__ import annotations

from typing import Annotated

import typer

from refusalctl.cli import options as o
from refusalctl.records.rows import KINDS, SPLITS, Kind, Split


def collect(
    lang: o.LangOption,
    kind: Annotated[Kind | None, typer.Option(help="Prompt class; both by default, harmful first.")] = None,
    split: Annotated[Split, typer.Option(help="Which split.")] = "train",
    n: Annotated[int | None, typer.Option(min=1, help="How many prompts; all, up to 128, by default.")] = None,
    positions: o.PositionsOption = None,
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
    """Record resid_pre of every prompt at every layer, at the end-of-instruction positions (HDF5)."""
    from refusalctl.steps.activations import collect_activations
    from refusalctl.steps.prompts import draw_prompts

    assert split in SPLITS
    experiment = o.experiment(data=data, seed=seed, positions=positions, **{f"n_{split}": n})
    bench = o.workbench(
        store, model, device=device, dtype=dtype, attention=attention, batch_size=batch_size,
        system=system, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    found = [
        collect_activations(bench, experiment, draw_prompts(bench, experiment, lang, each, split))
        for each in ((kind,) if kind else KINDS)
    ]
    o.finish(bench, found, name=name, json=json)
