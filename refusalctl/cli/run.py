"""`refusalctl run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out
from refusalctl.cli.transfer import show_matrix
from refusalctl.settings import from_settings, read_toml


def run(
    file: Annotated[Path | None, typer.Argument(help="Experiment file (TOML); see examples/.")] = None,
    sources: Annotated[str | None, typer.Option(help="Source languages such as en,be.")] = None,
    targets: Annotated[str | None, typer.Option(help="Target languages such as en,be,ba.")] = None,
    data: Annotated[str | None, typer.Option(help="Prompt set: sample, polyrefuse, or your own.")] = None,
    model: Annotated[str | None, typer.Option(help="Model, instead of the file's.")] = None,
    n_train: o.NTrainOption = None,
    n_val: o.NValOption = None,
    n_test: o.NTestOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the prompt draw.")] = None,
    layers: o.LayersOption = None,
    positions: o.PositionsOption = None,
    rule: Annotated[str | None, typer.Option(help="Selection rule: arditi or wang.")] = None,
    max_kl: o.MaxKlOption = None,
    min_induce: o.MinInduceOption = None,
    max_layer_share: o.ShareOption = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Longest completion in tokens.")] = None,
    judge: Annotated[str | None, typer.Option(help="Judge: NAME or NAME=MODEL; see `judge --list`.")] = None,
    margin: o.MarginOption = None,
    induce: o.InduceOption = None,
    doses: o.DosesOption = None,
    controls: o.ControlsOption = None,
    n_controls: o.NControlsOption = None,
    require_null: o.RequireNullOption = None,
    rank: o.RankOption = None,
    criterion: o.CriterionOption = None,
    prune: o.PruneOption = False,
    screen: o.ScreenOption = False,
    refusal_openings: o.OpeningsOption = None,
    opening_judge: o.OpeningJudgeOption = None,
    min_opening_auroc: o.OpeningAurocOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps, or shard.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    attention: Annotated[str | None, typer.Option(help="sdpa, eager or flash_attention_2.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Prompts per batch; fewer if memory runs out.")] = None,
    store: o.StoreOption = o.DEFAULT_STORE,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Copy the report's files here.")] = None,
    name: o.NameOption = None,
    dry_run: o.DryRunOption = False,
    probe: o.ProbeOption = False,
    json: o.JsonOption = False,
) -> None:
    """The whole chain, from prompts to the report. Finished steps are not computed again; flags win over the file."""
    from refusalctl.steps.transfer import measure_transfer

    o.check_probe(probe, dry_run)
    settings = read_toml(file) if file is not None else {}
    asked: dict[str, Any] = dict(settings.get("experiment", {}))
    given: dict[str, Any] = {
        "sources": sources and o.languages(sources),
        "targets": targets and o.languages(targets),
        "data": data, "n_train": n_train, "n_val": n_val, "n_test": n_test, "seed": seed, "rule": rule,
        "max_kl": max_kl, "min_induce": min_induce, "max_layer_share": max_layer_share,
        "max_new_tokens": max_new_tokens, "judge": judge, "margin": margin, "induce": induce,
        "doses": o.doses(doses), "controls": controls, "n_controls": n_controls, "require_null": require_null,
        "rank": rank,
        "search": o.search(prune=prune, screen=screen),
        "criterion": criterion, "refusal_openings": refusal_openings or None, "opening_judge": opening_judge,
        "min_opening_auroc": min_opening_auroc,
    }  # fmt: skip
    given |= {"layers": o.numbers(layers, "--layers"), "positions": o.numbers(positions, "--positions")}
    asked |= {k: v for k, v in given.items() if v is not None}
    if not asked.get("sources") or not asked.get("targets"):
        raise typer.BadParameter("name --sources and --targets, or a FILE that does")
    if "data" not in asked and os.environ.get("REFUSALCTL_DATA"):
        asked["data"] = os.environ["REFUSALCTL_DATA"]
    here = {"device": device, "dtype": dtype, "attention": attention, "batch_size": batch_size}
    machine = settings.get("model", {}) | {k: v for k, v in here.items() if v is not None}
    named = machine.pop("name", None) or os.environ.get("REFUSALCTL_MODEL") or o.DEFAULT_MODEL
    chosen = model or named
    bench = o.workbench(store, chosen, dry_run=dry_run, **machine)
    experiment = from_settings(asked)
    matrix = measure_transfer(bench, experiment)
    if dry_run:
        o.finish(bench, [matrix], json=json, cost=o.forecast(bench, experiment, probe=probe))
        return
    from refusalctl.report.report import make_report

    page = make_report(bench, [matrix])
    computed = sum(not p.done for p in bench.plan)
    show_matrix(matrix)
    out.success(f"{len(bench.plan)} steps, {computed} computed now; report: {page.path / 'report.html'}")
    if out_folder is not None:
        from refusalctl.cli.report import copy_files

        copy_files(page, out_folder)
    o.finish(bench, [page], name=name, json=json)
