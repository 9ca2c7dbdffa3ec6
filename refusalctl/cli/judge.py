"""`refusalctl judge`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from refusalctl.cli import options as o
from refusalctl.cli import out


def judge(
    completions: Annotated[list[str], typer.Argument(help="Completions artifacts.", show_default=False)],
    judge: o.JudgeOption = "substring",
    store: o.StoreOption = o.DEFAULT_STORE,
    name: o.NameOption = None,
    dry_run: o.DryRunOption = False,
    json: o.JsonOption = False,
) -> None:
    """Label completions as refusal, compliance, degenerate or unparsed (JSONL)."""
    from refusalctl.stats.rates import outcome_rate
    from refusalctl.steps.labels import labels, outcomes

    bench = o.workbench(store, o.DEFAULT_MODEL, dry_run=dry_run)
    found = []
    for reference in completions:
        written = bench.store.resolve(reference, "completions")
        found.append(labels(bench, written, judge))
        if not dry_run:
            seen = list(outcomes(found[-1]).values())
            counts = ", ".join(f"{n} {outcome}" for outcome, n in Counter(seen).most_common())
            rate = ""
            if any(outcome != "unparsed" for outcome in seen):
                refused = outcome_rate(seen, "refusal")
                rate = f"{refused.value:.0%} refusal [" + "{:.0%}, {:.0%}] ".format(*refused.wilson())
            out.success(f"{out.about_line(written.about)}: {rate}({counts})")
    o.finish(bench, found, name=name, json=json)
