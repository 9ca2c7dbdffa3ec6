"""`refusalctl extract`."""

from __future__ import annotations

from refusalctl.cli import options as o


def extract(
    lang: o.LangOption,
    n_train: o.NTrainOption = None,
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
    """Difference-in-means candidate directions of one language, at every position and layer (safetensors)."""
    from refusalctl.steps.directions import extract_directions

    experiment = o.experiment(data=data, seed=seed, positions=positions, n_train=n_train)
    bench = o.workbench(
        store, model, device=device, dtype=dtype, attention=attention, batch_size=batch_size,
        system=system, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    o.finish(bench, [extract_directions(bench, experiment, lang)], name=name, json=json)
