"""`report --compare`: two transfers cell by cell, on the same prompts where their ids agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from refusalctl.errors import BadInput
from refusalctl.report import tables as tables
from refusalctl.report.page import environment
from refusalctl.report.provenance import Provenance, in_order
from refusalctl.report.rows import Condition, Content
from refusalctl.report.sources import content
from refusalctl.stats.agreement import kappa
from refusalctl.stats.paired import holm, interval, mcnemar_p, moves, noise_floor
from refusalctl.stats.rates import Rate
from refusalctl.steps.labelling.labels import outcomes_by_prompt
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.steps.verdicts import clusters
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

PAGE, PAIRS, JSON = "report.html", "pairs.csv", "report.json"
SKIPPED = ("sources", "targets")  # compared as cells, not as a setting


class Paired(NamedTuple):
    """Refusals on the same prompts: in both, in one only, in neither; second minus first with 95 % limits, and p.

    Limits: Tango's score interval, over clusters where prompts repeat; p: exact McNemar, two-sided (`stats/paired`).
    """

    both: int
    first: int
    second: int
    neither: int
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Twin:
    """One cell that both transfers hold. `same`: both labelled the very same completions, so only the judge differs.

    `paired` and `kappa` are None where no prompt id is in both, or nothing could be labelled. `changed`: shared prompts
    whose outcome, `unparsed` among them, is another in the second.
    """

    target: str
    source: str | None
    condition: str
    prompts: str
    a: Condition
    b: Condition
    shared: int
    changed: Rate | None
    paired: Paired | None
    p_holm: float | None
    kappa: float | None
    same: bool


@dataclass(frozen=True)
class Comparison:
    a: Content
    b: Content
    differs: list[tuple[str, str, str]]
    twins: list[Twin]
    only: list[tuple[str, str]]
    sources: tuple[Artifact, ...] = field(repr=False, default=())

    @property
    def floor(self) -> Rate | None:
        """Share of outcomes that a rerun alone changes, over all cells; None where more than the run differs."""
        rates = [twin.changed for twin in self.twins if twin.changed is not None]
        if self.differs or not rates:
            return None
        return Rate(sum(rate.count for rate in rates), sum(rate.n for rate in rates))


def differences(a: Content, b: Content) -> list[tuple[str, str, str]]:
    """Settings in which two transfers differ, as (name, first, second)."""
    rows = []
    for group, one, two in (("model", a.model, b.model), ("experiment", a.settings.by_name(), b.settings.by_name())):
        for key in sorted({*one, *two} - set(SKIPPED)):
            if one.get(key) != two.get(key):
                rows.append((f"{group}: {key}", _said(one.get(key)), _said(two.get(key))))
    return rows


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


def _cells(rows: Content) -> dict[tuple[str, str | None, str, str, str], Condition]:
    """Cells by what was measured, so that a dose or a seed is compared with itself."""
    found = [c for c in (*rows.conditions, *rows.harmless.values(), *rows.others) if isinstance(c, Condition)]
    return {(c.target, c.source, c.condition, c.prompts, c.detail): c for c in found}


def compared(store: Store, first: Artifact, second: Artifact) -> Comparison:
    """Every cell that both hold. Raises `BadInput` where they have none in common."""
    one, two = Provenance(store, first), Provenance(store, second)
    a, b = content(store, first, one), content(store, second, two)
    here, there = _cells(a), _cells(b)
    common = [key for key in here if key in there]
    if not common:
        raise BadInput(
            f"{first.label} and {second.label} have no cell in common",
            hint="compare transfers that share a target language",
        )
    found = [_pair(here[key], there[key], one, two) for key in common]
    only = [
        (which, " ".join(str(part or "-") for part in key))
        for which, ours, theirs in (("first", here, there), ("second", there, here))
        for key in ours
        if key not in theirs
    ]
    return Comparison(
        a, b, differences(a, b), _adjusted(found), only, tuple(in_order((one.by_id | two.by_id).values()))
    )


def _pair(a: Condition, b: Condition, one: Provenance, two: Provenance) -> Twin:
    first, second = outcomes_by_prompt(one.by_id[a.labels]), outcomes_by_prompt(two.by_id[b.labels])
    shared = [i for i in first if i in second]
    both = [i for i in shared if "unparsed" not in (first[i], second[i])]
    groups = clusters(one.by_id[a.labels])
    return Twin(
        target=a.target, source=a.source, condition=a.condition, prompts=a.prompts, a=a, b=b, shared=len(shared),
        changed=noise_floor({i: first[i] for i in shared}, {i: second[i] for i in shared}) if shared else None,
        paired=paired({i: first[i] for i in both}, {i: second[i] for i in both}, groups) if both else None,
        p_holm=None, kappa=kappa([first[i] for i in both], [second[i] for i in both]) if both else None,
        same=a.completions == b.completions,
    )  # fmt: skip


def paired(first: Mapping[str, str], second: Mapping[str, str], groups: Mapping[str, str]) -> Paired:
    """Compare refusals by prompt id; whatever is no refusal counts as one thing."""
    one, two = ({i: o if o == "refusal" else "other" for i, o in rows.items()} for rows in (first, second))
    found = moves(one, two, origin="other", goal="refusal", clusters=groups)
    agreed = sum(one[i] == two[i] == "refusal" for i in one)
    only = (int(found.back), int(found.forth))
    low, high = interval(found)
    return Paired(agreed, *only, len(one) - agreed - sum(only), found.difference, low, high, mcnemar_p(found))


def _adjusted(found: list[Twin]) -> list[Twin]:
    """Holm over all cells that could be tested."""
    tested = [i for i, twin in enumerate(found) if twin.paired is not None]
    adjusted = dict(zip(tested, holm([twin.paired.p for twin in found if twin.paired is not None])))
    return [replace(twin, p_holm=adjusted.get(i)) for i, twin in enumerate(found)]


COLUMNS = (
    "target", "condition", "source", "prompts", "n_first", "refusal_first", "n_second", "refusal_second", "shared",
    "changed", "both_refuse", "only_first", "only_second", "neither", "difference", "low", "high", "p", "p_holm",
    "kappa", "same_completions", "verdict_first", "verdict_second", "labels_first", "labels_second",
)  # fmt: skip


def row(twin: Twin) -> dict[str, object]:
    """One line of pairs.csv; what could not be computed is empty."""
    found: dict[str, object] = {
        "target": twin.target, "condition": twin.condition, "source": twin.source or "", "prompts": twin.prompts,
        "shared": twin.shared, "same_completions": str(twin.same).lower(), "labels_first": twin.a.labels,
        "labels_second": twin.b.labels,
    }  # fmt: skip
    if twin.changed is not None:
        found["changed"] = twin.changed.count
    for which, cell in (("first", twin.a), ("second", twin.b)):
        if (rate := cell.rate("refusal")) is not None:
            found |= {f"n_{which}": rate.n, f"refusal_{which}": f"{rate.value:.6g}"}
        if cell.verdict is not None:
            found[f"verdict_{which}"] = cell.verdict.value
    if (p := twin.paired) is not None:
        found |= {"both_refuse": p.both, "only_first": p.first, "only_second": p.second, "neither": p.neither}
        found |= {
            k: f"{v:.6g}" for k, v in (("difference", p.difference), ("low", p.low), ("high", p.high), ("p", p.p))
        }
    found |= {k: f"{v:.6g}" for k, v in (("p_holm", twin.p_holm), ("kappa", twin.kappa)) if v is not None}
    return found


def _run(job: Job) -> dict[str, Any]:
    found = compared(job.bench.store, job.inputs["first"], job.inputs["second"])
    lines: list[Mapping[str, object]] = [row(twin) for twin in found.twins]
    (job.out / PAIRS).write_text(tables.as_csv(COLUMNS, lines), encoding="utf-8")
    text = environment().get_template("compare.html.j2").render(d=found)
    (job.out / PAGE).write_text(text, encoding="utf-8")
    record: dict[str, Any] = {
        "first": found.a.transfer,
        "second": found.b.transfer,
        "differs": found.differs,
        "cells": lines,
    }
    if (floor := found.floor) is not None:
        record["noise_floor"] = {"changed": floor.count, "n": floor.n, "limits95": list(floor.clopper_pearson())}
    formats.write_json(job.out / JSON, "comparison", record)
    return {"cells": len(found.twins), "only_in_one": len(found.only)}


COMPARE = Step("compare", 2, "report", _run)


def compare_transfers(bench: Workbench, transfers: Sequence[Artifact]) -> Artifact:
    """Two transfers as one page and table. Raises `BadInput` unless two different ones are given."""
    if len(transfers) != 2 or transfers[0].id == transfers[1].id:
        raise BadInput(
            f"--compare takes two different transfers, found {len({t.id for t in transfers})}",
            hint="refusalctl report --compare FIRST SECOND; see `refusalctl artifacts ls`",
        )
    first, second = transfers
    about = {k: " : ".join(dict.fromkeys((str(first.about[k]), str(second.about[k])))) for k in ("model", "data")}
    return bench.obtain(COMPARE, {}, {"first": first, "second": second}, about)
