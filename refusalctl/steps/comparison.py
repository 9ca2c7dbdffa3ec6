"""Two transfers cell by cell: the numbers of `report --compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from refusalctl.errors import BadInput
from refusalctl.records.comparison import (
    ComparedCell,
    Comparison,
    LoneCell,
    NoiseFloor,
    PairedRefusals,
    SettingDifference,
)
from refusalctl.records.transfer import Transfer, TransferCell
from refusalctl.settings import Settings
from refusalctl.stats.agreement import kappa
from refusalctl.stats.paired import holm, interval, mcnemar_p, moves, noise_floor
from refusalctl.stats.rates import Rate
from refusalctl.steps.counts import Outcomes, judged_outcomes
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.transfer import read_transfer
from refusalctl.steps.verdicts import clusters
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

COMPARED_AS_CELLS = ("sources", "targets")  # and so not as settings
CellName = tuple[str, str | None, str, str, float | None, int | None]


def compared(store: Store, first: Artifact, second: Artifact) -> Comparison:
    """Every cell that both hold. Raises `BadInput` where they have none in common."""
    one, two = read_transfer(first), read_transfer(second)
    here, there = _by_name(one), _by_name(two)
    common = [name for name in here if name in there]
    if not common:
        raise BadInput(
            f"{first.label} and {second.label} have no cell in common",
            hint="compare transfers that share a target language",
        )
    differs = _differences(one, two)
    cells = _adjusted([_pair(store, here[name], there[name]) for name in common])
    only = [LoneCell("first", _text(name)) for name in here if name not in there]
    only += [LoneCell("second", _text(name)) for name in there if name not in here]
    return Comparison(first.id, second.id, differs, cells, tuple(only), None if differs else _noise_floor(cells))


def _by_name(transfer: Transfer) -> dict[CellName, TransferCell]:
    """Cells by what was measured, so that a dose or a draw is compared with itself; the matrix first, native last."""
    rank = {"baseline": 0, "transferred": 1, "native": 2}
    targets = Settings.from_json(transfer.settings).targets
    matrix = [cell for cell in transfer.cells if cell.condition in rank]
    matrix.sort(key=lambda cell: (targets.index(cell.target), rank[cell.condition]))
    others = [cell for cell in transfer.cells if cell.condition not in rank]
    cells = (*matrix, *transfer.harmless.values(), *others)
    return {(c.target, c.source, c.condition, c.prompts, c.coeff, c.draw): c for c in cells}


def _text(name: CellName) -> str:
    return " ".join("-" if part is None else str(part) for part in name[:4]) + _beside(*name[4:])


def _beside(coeff: float | None, draw: int | None) -> str:
    return ("" if coeff is None else f" coefficient {coeff}") + ("" if draw is None else f" draw {draw}")


def _differences(first: Transfer, second: Transfer) -> tuple[SettingDifference, ...]:
    """Settings in which two transfers differ."""
    a, b = (Settings.from_json(each.settings).by_name() for each in (first, second))
    groups: list[tuple[str, Mapping[str, object], Mapping[str, object]]] = [
        ("model", first.model, second.model),
        ("experiment", a, b),
    ]
    rows: list[SettingDifference] = []
    for group, one, two in groups:
        for name in sorted({*one, *two} - {*COMPARED_AS_CELLS}):
            if one.get(name) != two.get(name):
                rows.append(SettingDifference(f"{group}: {name}", _value(one.get(name)), _value(two.get(name))))
    return tuple(rows)


def _value(value: object) -> str | None:
    return None if value is None else str(value)


def _pair(store: Store, a: TransferCell, b: TransferCell) -> ComparedCell:
    labels = store.open("labels", a.labels)
    first, second = judged_outcomes(labels), judged_outcomes(store.open("labels", b.labels))
    shared = [i for i in first if i in second]
    both = [i for i in shared if "unparsed" not in (first[i], second[i])]
    changed = noise_floor({i: first[i] for i in shared}, {i: second[i] for i in shared}).count if shared else None
    one, two = {i: first[i] for i in both}, {i: second[i] for i in both}
    return ComparedCell(
        first=a,
        second=b,
        shared=len(shared),
        changed=changed,
        paired=paired_refusals(one, two, clusters(labels)) if both else None,
        p_holm=None,
        kappa=kappa(list(one.values()), list(two.values())) if both else None,
        same_completions=a.completions == b.completions,
    )


def paired_refusals(first: Outcomes, second: Outcomes, groups: Mapping[str, str]) -> PairedRefusals:
    """Compare refusals by prompt id; whatever is no refusal counts as one thing."""
    one, two = ({i: o if o == "refusal" else "other" for i, o in rows.items()} for rows in (first, second))
    moved = moves(one, two, origin="other", goal="refusal", clusters=groups)
    agreed = sum(one[i] == two[i] == "refusal" for i in one)
    only = (int(moved.back), int(moved.forth))
    neither = len(one) - agreed - sum(only)
    return PairedRefusals(agreed, *only, neither, moved.difference, interval(moved), mcnemar_p(moved))


def _adjusted(cells: Sequence[ComparedCell]) -> tuple[ComparedCell, ...]:
    """Holm over all cells that could be tested."""
    tested = [i for i, cell in enumerate(cells) if cell.paired is not None]
    adjusted = dict(zip(tested, holm([cell.paired.p for cell in cells if cell.paired is not None]), strict=True))
    return tuple(replace(cell, p_holm=adjusted.get(i)) for i, cell in enumerate(cells))


def _noise_floor(cells: Sequence[ComparedCell]) -> NoiseFloor | None:
    """Share of outcomes that a rerun alone changes; None where no prompt is shared."""
    changes = [(cell.changed, cell.shared) for cell in cells if cell.changed is not None]
    if not changes:
        return None
    rate = Rate(sum(changed for changed, _ in changes), sum(shared for _, shared in changes))
    return NoiseFloor(rate.count, rate.n, rate.value, rate.clopper_pearson())


def _run(job: Job) -> RunChecks:
    comparison = compared(job.bench.store, job.inputs["first"], job.inputs["second"])
    formats.write_record(job.out, comparison)
    return {"cells": len(comparison.cells), "only_in_one": len(comparison.only)}


COMPARE = Step("compare", 4, "comparison", _run)


def measure_comparison(bench: Workbench, transfers: Sequence[Artifact]) -> Artifact:
    """The numbers of two transfers side by side. Raises `BadInput` unless two different ones are given."""
    if len(transfers) != 2 or transfers[0].id == transfers[1].id:
        raise BadInput(
            f"--compare takes two different transfers, found {len({t.id for t in transfers})}",
            hint="refusalctl report --compare FIRST SECOND; see `refusalctl artifacts ls`",
        )
    first, second = transfers
    about = {k: " : ".join(dict.fromkeys((str(first.about[k]), str(second.about[k])))) for k in ("model", "data")}
    return bench.obtain(COMPARE, {}, {"first": first, "second": second}, about)


def read_comparison(artifact: Artifact) -> Comparison:
    return formats.read_record(artifact.path, Comparison)
