"""`refusalctl transfer`."""

from __future__ import annotations

from typing import Annotated

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out
from refusalctl.store.store import Artifact


def transfer(
    sources: Annotated[str, typer.Option(help="Languages to take a direction from, such as en,be.")],
    targets: Annotated[str, typer.Option(help="Languages to apply it in, such as en,be,ba.")],
    rule: o.RuleOption = "arditi",
    max_kl: o.MaxKlOption = None,
    min_induce: o.MinInduceOption = None,
    max_layer_share: o.ShareOption = None,
    filter_val: o.FilterOption = True,
    n_train: o.NTrainOption = None,
    n_val: o.NValOption = None,
    n_test: o.NTestOption = None,
    positions: o.PositionsOption = None,
    layers: o.LayersOption = None,
    max_new_tokens: o.TokensOption = 64,
    judge: o.JudgeOption = "substring",
    criterion: o.CriterionOption = "refusal-score",
    refusal_openings: o.OpeningsOption = None,
    opening_judge: o.OpeningJudgeOption = "style",
    min_opening_auroc: o.OpeningAurocOption = 0.75,
    margin: o.MarginOption = None,
    induce: o.InduceOption = None,
    controls: o.ControlsOption = None,
    n_controls: o.NControlsOption = None,
    require_null: o.RequireNullOption = None,
    rank: o.RankOption = None,
    criterion: o.CriterionOption = None,
    refusal_openings: o.OpeningsOption = None,
    opening_judge: o.OpeningJudgeOption = None,
    min_opening_auroc: o.OpeningAurocOption = None,
    data: o.DataOption = "sample",
    seed: o.SeedOption = 0,
    model: o.ModelOption = o.DEFAULT_MODEL,
    store: o.StoreOption = o.DEFAULT_STORE,
    device: o.DeviceOption = "auto",
    dtype: o.DTypeOption = "auto",
    attention: o.AttentionOption = "sdpa",
    batch_size: o.BatchOption = 16,
    system: o.SystemOption = None,
    trust_remote_code: o.TrustOption = False,
    name: o.NameOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
) -> None:
    """Every source in every target: baseline, native and transferred ablation, as one artifact."""
    from refusalctl.steps.transfer import transfer as transfer_step

    decided = {
        "margin": margin, "induce": induce, "controls": controls, "n_controls": n_controls,
        "require_null": require_null, "rank": rank,
        "criterion": criterion, "refusal_openings": refusal_openings or None, "opening_judge": opening_judge,
        "min_opening_auroc": min_opening_auroc,
    }  # fmt: skip
    experiment = o.experiment(
        sources=o.languages(sources), targets=o.languages(targets), data=data, seed=seed, positions=positions,
        layers=layers, n_train=n_train, n_val=n_val, n_test=n_test, rule=rule, max_kl=max_kl, min_induce=min_induce,
        max_layer_share=max_layer_share, filter_val=filter_val, max_new_tokens=max_new_tokens, judge=judge,
        criterion=criterion, refusal_openings=refusal_openings, opening_judge=opening_judge,
        min_opening_auroc=min_opening_auroc,
        **{k: v for k, v in decided.items() if v is not None},
    )  # fmt: skip
    bench = o.workbench(
        store, model, device=device, dtype=dtype, attention=attention, batch_size=batch_size,
        system=system, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    found = transfer_step(bench, experiment)
    if not dry_run:
        show_matrix(found)
    o.finish(bench, [found], name=name, json=json)


def show_matrix(transfer: Artifact) -> None:
    """Refusal rates and verdicts of every cell, and a sentence per target, on stderr."""
    from refusalctl.stats.rates import Rate
    from refusalctl.steps.transfer import read

    rows, value = [], read(transfer)
    for cell in value["cells"]:
        counts = cell["counts"]
        labelled = cell["n"] - counts.get("unparsed", 0)
        share, interval = "no label", ""
        if labelled:
            rate = Rate(counts.get("refusal", 0), labelled, counts.get("unparsed", 0))
            share, interval = f"{rate.value:.0%}", "[{:.0%}, {:.0%}]".format(*rate.wilson())
        flips = cell.get("flips")
        moved = f"{flips['removed']} removed, {flips['gained']} gained" if flips else ""
        rows.append(
            (cell["target"], cell["condition"], cell["source"] or "", labelled, share, interval,
             counts.get("degenerate", 0), moved)
        )  # fmt: skip
    out.table_err(("target", "condition", "source", "n", "refusal", "95 %", "degenerate", "paired"), rows)
    for cell in value["cells"]:
        for question, verdict in (cell.get("verdict") or {}).items():
            if verdict is not None:
                done = "ablated" if question == "removal" else "added"
                out.info(
                    f"{cell['source']} direction {done} in {cell['target']}: {verdict['value']} ({verdict['reason']})"
                )
