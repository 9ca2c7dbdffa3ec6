"""`refusalctl select`."""

from __future__ import annotations

from refusalctl.cli import options as o
from refusalctl.cli import out


def select(
    lang: o.LangOption,
    rule: o.RuleOption = "arditi",
    max_kl: o.MaxKlOption = None,
    min_induce: o.MinInduceOption = None,
    max_layer_share: o.ShareOption = None,
    filter_val: o.FilterOption = True,
    n_train: o.NTrainOption = None,
    n_val: o.NValOption = None,
    positions: o.PositionsOption = None,
    layers: o.LayersOption = None,
    judge: o.JudgeOption = "substring",
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
    json: o.JsonOption = False,
) -> None:
    """Score every candidate on validation prompts and choose one by a rule; all scores are kept."""
    from refusalctl.report.selection_words import described
    from refusalctl.steps.selection.scores import select_direction

    decided = {
        "search": o.search(prune=prune, screen=screen),
        "criterion": criterion, "refusal_openings": refusal_openings or None,
        "opening_judge": opening_judge, "min_opening_auroc": min_opening_auroc,
    }  # fmt: skip
    experiment = o.experiment(
        data=data, seed=seed, positions=positions, layers=layers, n_train=n_train, n_val=n_val, rule=rule,
        max_kl=max_kl, min_induce=min_induce, max_layer_share=max_layer_share, filter_val=filter_val, judge=judge,
        **{k: v for k, v in decided.items() if v is not None},
    )  # fmt: skip
    bench = o.workbench(
        store, model, device=device, dtype=dtype, attention=attention, batch_size=batch_size,
        system=system, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    found = select_direction(bench, experiment, lang)
    if not dry_run:
        out.success(f"{lang}: {described(found)[0]}")
        for line in described(found)[1:]:
            out.info(line)
    o.finish(bench, [found], name=name, json=json)
