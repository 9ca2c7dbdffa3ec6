"""`refusalctl geometry`."""

from __future__ import annotations

from typing import Annotated

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out
from refusalctl.store.store import Artifact


def geometry(
    langs: Annotated[str, typer.Option(help="Languages to compare, such as en,be,ba.")],
    reference: Annotated[
        str | None, typer.Option(help="Language on whose direction all are projected; the first by default.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="POSITION,LAYER such as -1,19; the most reliable place by default.")
    ] = None,
    halves: Annotated[int, typer.Option(min=1, help="Random splits behind the noise ceiling.")] = 50,
    permutations: Annotated[int, typer.Option(min=1, help="Shuffles of the labels behind each p.")] = 999,
    components: Annotated[int, typer.Option(min=1, help="Dimensions of the compared subspaces.")] = 3,
    n_train: o.NTrainOption = None,
    positions: o.PositionsOption = None,
    data: o.DataOption = "sample",
    seed: o.SeedOption = 0,
    model: o.ModelOption = o.DEFAULT_MODEL,
    store: o.StoreOption = o.DEFAULT_STORE,
    device: o.DeviceOption = "auto",
    dtype: o.DTypeOption = "auto",
    batch_size: o.BatchOption = o.DEFAULT_BATCH,
    system: o.SystemOption = None,
    trust_remote_code: o.TrustOption = False,
    name: o.NameOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
) -> None:
    """How alike the languages' directions are, beside their noise ceiling and chance, and how far classes lie apart."""
    from refusalctl.steps.geometry import GeometryParams, compare_geometry

    named = o.languages(langs)
    place = o.numbers(at, "--at")
    if place is not None and len(place) != 2:
        raise typer.BadParameter(f"--at takes one position and one layer such as -1,19, found {at!r}")
    params = GeometryParams(
        reference or named[0], (place[0], place[1]) if place else None, halves, permutations, components=components,
        seed=seed,
    )  # fmt: skip
    experiment = o.experiment(data=data, seed=seed, positions=positions, n_train=n_train)
    bench = o.workbench(
        store, model, device=device, dtype=dtype, batch_size=batch_size, system=system,
        trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    found = compare_geometry(bench, experiment, named, params)
    if not dry_run:
        show_pairs(found)
    o.finish(bench, [found], name=name, json=json)


def show_pairs(found: Artifact) -> None:
    """Cosines at the refusal place, on stderr."""
    from refusalctl.steps.geometry import read_geometry

    def number(value: float | None) -> str:
        return "none" if value is None else f"{value:.3f}"

    site = read_geometry(found)["sites"]["refusal"]
    out.info(f"refusal direction at position {site['pos']}, layer {site['layer']}")
    rows = [
        (f"{p['a']} {p['b']}", number(p["cosine"]), number(p["ceiling"]), number(p["disattenuated"]),
         number(p["null_95"]), number(p["p_by"]))
        for p in site["pairs"]
    ]  # fmt: skip
    out.table_err(("languages", "cosine", "ceiling", "disattenuated", "null 95 %", "p (FDR-BY)"), rows)
