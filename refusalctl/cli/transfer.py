"""`refusalctl transfer`."""

from __future__ import annotations

from typing import Annotated, Any

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
    probe: o.ProbeOption = False,
    json: o.JsonOption = False,
) -> None:
    """Every source in every target: baseline, native and transferred ablation, as one artifact."""
    from refusalctl.steps.transfer import measure_transfer

    decided = {
        "margin": margin, "induce": induce, "doses": o.doses(doses), "controls": controls, "n_controls": n_controls,
        "require_null": require_null, "rank": rank,
        "search": o.search(prune=prune, screen=screen),
        "criterion": criterion, "refusal_openings": refusal_openings or None, "opening_judge": opening_judge,
        "min_opening_auroc": min_opening_auroc,
    }  # fmt: skip
    experiment = o.experiment(
        sources=o.languages(sources), targets=o.languages(targets), data=data, seed=seed, positions=positions,
        layers=layers, n_train=n_train, n_val=n_val, n_test=n_test, rule=rule, max_kl=max_kl, min_induce=min_induce,
        max_layer_share=max_layer_share, filter_val=filter_val, max_new_tokens=max_new_tokens, judge=judge,
        **{k: v for k, v in decided.items() if v is not None},
    )  # fmt: skip
    o.check_probe(probe, dry_run)
    bench = o.workbench(
        store, model, device=device, dtype=dtype, attention=attention, batch_size=batch_size,
        system=system, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    found = measure_transfer(bench, experiment)
    if not dry_run:
        show_matrix(found)
    o.finish(bench, [found], name=name, json=json, cost=o.forecast(bench, experiment, probe=probe))


def show_matrix(transfer: Artifact) -> None:
    """Refusal rates and verdicts of every cell, and a sentence per target, on stderr."""
    from refusalctl.stats.rates import Rate
    from refusalctl.steps.transfer import read_transfer

    rows, value = [], read_transfer(transfer)
    for cell in value["cells"]:
        counts = cell["counts"]
        labelled = cell["n"] - counts.get("unparsed", 0)
        share, interval = "no label", ""
        if labelled:
            rate = Rate(counts.get("refusal", 0), labelled, counts.get("unparsed", 0))
            share, interval = f"{rate.value:.0%}", "[{:.0%}, {:.0%}]".format(*rate.wilson())
        flips = cell.get("flips")
        moved = f"{flips['removed']} removed, {flips['gained']} gained" if flips else ""
        dose = f" x {cell['coeff']:g}" if cell.get("coeff") not in (None, 1.0) else ""
        draw = "" if cell.get("draw") is None else f", draw {cell['draw']}"
        rows.append(
            (cell["target"], cell["condition"] + dose + draw, cell["source"] or "", labelled, share, interval,
             counts.get("degenerate", 0), moved, _value(cell, "removal"), _value(cell, "induction"))
        )  # fmt: skip
    heads = ("target", "condition", "source", "n", "refusal", "95 %", "degenerate", "paired", "removal", "induction")
    out.table_err(heads, rows)
    for target in value["targets"]:
        out.info(sentence(value, target))


def sentence(value: dict[str, Any], target: str) -> str:
    """What a transfer says about one target: baseline, each direction's verdict with its reason, what n can show."""
    facts = value["targets"][target]
    said = [f"{target}: refuses {facts['refused']} of {facts['n']} harmful prompts at baseline"]
    for cell in value["cells"]:
        for question, verdict in (cell.get("verdict") or {}).items():
            if cell["target"] == target and verdict is not None:
                done = "ablated" if question == "removal" else "added"
                said.append(f"{cell['source']} direction {done}: {verdict['value']} ({verdict['reason']})")
    least = facts["detectable"]
    said.append(
        f"{facts['n']} prompts show a removal of {least:.0%} or more with 80 % power"
        if least
        else f"{facts['n']} prompts are too few to show any removal above the margin with 80 % power"
    )
    return "; ".join(said)


def _value(cell: dict[str, Any], question: str) -> str:
    verdict = (cell.get("verdict") or {}).get(question)
    return str(verdict["value"]) if verdict else ""
