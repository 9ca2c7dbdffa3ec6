"""`report --compare`: the page and the table of two compared transfers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

from refusalctl.records.comparison import ComparedCell, Comparison
from refusalctl.report import tables
from refusalctl.report.content import told_apart
from refusalctl.report.page import environment
from refusalctl.report.provenance import Provenance, in_order
from refusalctl.report.sources import content
from refusalctl.steps.comparison import measure_comparison, read_comparison
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store.store import Artifact

PAGE, PAIRS = "report.html", "pairs.csv"
COLUMNS = (
    "target",
    "condition",
    "source",
    "prompts",
    "n_first",
    "refusal_first",
    "n_second",
    "refusal_second",
    "shared",
    "changed",
    "both_refuse",
    "only_first",
    "only_second",
    "neither",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "kappa",
    "same_completions",
    "verdict_first",
    "verdict_second",
    "labels_first",
    "labels_second",
)


def pair_row(cell: ComparedCell) -> dict[str, object]:
    """One line of pairs.csv; what could not be computed is empty."""
    line: dict[str, object] = {
        "target": cell.target,
        "condition": cell.first.condition,
        "source": cell.first.source or "",
        "prompts": cell.first.prompts,
        "shared": cell.shared,
        "same_completions": str(cell.same_completions).lower(),
        "labels_first": cell.first.labels,
        "labels_second": cell.second.labels,
    }
    if cell.changed is not None:
        line["changed"] = cell.changed
    for which, each in (("first", cell.first), ("second", cell.second)):
        if each.refusal is not None:
            line |= {f"n_{which}": each.refusal.n, f"refusal_{which}": f"{each.refusal.value:.6g}"}
        if each.removal is not None:
            line[f"verdict_{which}"] = each.removal.value
    if (paired := cell.paired) is not None:
        low, high = paired.interval95
        line |= {"both_refuse": paired.both, "neither": paired.neither}
        line |= {"only_first": paired.only_first, "only_second": paired.only_second}
        numbers = {"difference": paired.difference, "low": low, "high": high, "p": paired.p}
        line |= {name: f"{value:.6g}" for name, value in numbers.items()}
    tests = {"p_holm": cell.p_holm, "kappa": cell.kappa}
    return line | {name: f"{value:.6g}" for name, value in tests.items() if value is not None}


def _run(job: Job) -> RunChecks:
    comparison = job.inputs["comparison"]
    record = read_comparison(comparison)
    (job.out / PAIRS).write_text(tables.as_csv(COLUMNS, map(pair_row, record.cells)), encoding="utf-8")
    (job.out / PAGE).write_text(_page(job, record), encoding="utf-8")
    shutil.copyfile(comparison.path / Comparison.FILE, job.out / Comparison.FILE)
    return {"cells": len(record.cells)}


def _page(job: Job, record: Comparison) -> str:
    """The HTML page. Reading both transfers finds parts that contradict each other."""
    store, transfers = job.bench.store, [job.inputs[name] for name in ("first", "second")]
    origins = [Provenance(store, transfer) for transfer in transfers]
    first, second = (content(store, transfer, origin) for transfer, origin in zip(transfers, origins, strict=True))
    one, other = told_apart([first.model, second.model])
    first, second = replace(first, label=one), replace(second, label=other)
    by_id: Mapping[str, Artifact] = (
        origins[0].by_id | origins[1].by_id | {job.inputs["comparison"].id: job.inputs["comparison"]}
    )
    template = environment().get_template("compare.html.j2")
    return str(template.render(d=record, first=first, second=second, sources=in_order(by_id.values())))


COMPARISON_PAGE = Step("comparison-page", 3, "report", _run)


def compare_transfers(bench: Workbench, transfers: Sequence[Artifact]) -> Artifact:
    """Two transfers as one page and table. Raises `BadInput` unless two different ones are given."""
    for each in transfers:
        content(bench.store, each)  # raises where its parts contradict each other, before anything is written
    comparison = measure_comparison(bench, transfers)
    first, second = transfers
    inputs = {"comparison": comparison, "first": first, "second": second}
    return bench.obtain(COMPARISON_PAGE, {}, inputs, dict(comparison.about))
