"""`transfer --from-labels`: labels that others published as a transfer matrix, decided by the rule of measured ones.

Nothing that a measured matrix has is made up for them: control directions, gates, own directions, zero points and
harmless baselines that were not published are named and count as missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from refusalctl.data.languages import name as language_name
from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.records.cell import Cell, Condition, LanguagePair
from refusalctl.records.rows import Kind
from refusalctl.records.transfer import (
    ImportedMatrix,
    LackingEvidence,
    MissingCell,
    RuleLimits,
    Transfer,
    TransferCell,
    UnpairedLabels,
)
from refusalctl.settings import Settings, VerdictSettings
from refusalctl.stats.rates import fewest_flips, flips
from refusalctl.stats.verdict import MAX_UNUSABLE
from refusalctl.steps.counts import counted_cell, judged_outcomes
from refusalctl.steps.input_names import input_name, inputs_of, named
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.steps.published.pairing import Pairing, labels_of_one_model, pair_up
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.verdicts import CellControls, CellVerdicts, MatrixEvidence, decide_cells, facts_of_targets
from refusalctl.store import formats
from refusalctl.store.store import Artifact

DATA = "imported"
NO_CONTROLS = "labels from elsewhere come without control directions, so damage may do as much"


def matrix_of_labels(bench: Workbench, labels: Sequence[Artifact]) -> Artifact:
    """One model's imported labels as a matrix: conditions are paired with the baseline of their language.

    Raises `BadInput` for labels that were not imported, of several models or judges, of one cell twice, and where no
    condition can be paired at all.
    """
    if not labels:
        raise BadInput("no labels were given", hint="give imported ones; see `refusalctl artifacts ls labels`")
    chosen = labels_of_one_model(labels, bench.settings.answers.judge)
    pairing = pair_up(chosen)
    if not pairing.sources:
        reasons = dict.fromkeys(f"{each.target} {each.condition}: {each.reason}" for each in pairing.unpaired)
        told = "; ".join(list(reasons)[:3]) or "there are only baselines"
        raise BadInput(f"no condition can be paired with its baseline ({told})", hint="give the labels of both")
    took_part = [each for _, each in pairing.cells.values()]
    first = took_part[0].about
    params: JsonObject = {
        "settings": _settings(bench.settings, pairing, str(first["judge"])),
        "model": {"name": first["model"], "revision": first.get("revision", "unknown"), "dtype": None, "system": None},
        "cells": [msgspec.to_builtins(cell) for cell in pairing.ordered()],
        "origins": sorted(
            {str(each.about.get("source") or "not told") for each in (*took_part, *pairing.harmless.values())}
        ),
        "by_position": pairing.by_position,
        "unpaired": msgspec.to_builtins(pairing.unpaired),
    }
    by_id = {each.id: each for each in chosen}
    inputs = {input_name("labels", key): each for key, (_, each) in pairing.cells.items()}
    inputs |= named("harmless", pairing.harmless)
    inputs |= named("unpaired", {str(i): by_id[each.labels] for i, each in enumerate(pairing.unpaired)})
    about = {"model": first["model"], "data": DATA, "sources": ",".join(pairing.sources)}
    about |= {"targets": ",".join(pairing.targets), "n": first["n"], "provenance": DATA, "judge": first["judge"]}
    return bench.obtain(MATRIX, params, inputs, about)


def _settings(asked: Settings, pairing: Pairing, judge: str) -> JsonObject:
    """What was asked of the labels, and nothing of how their answers came about, which is not known here."""
    margin = asked.verdict.margin
    given = Settings.of(sources=pairing.sources, targets=pairing.targets, data=DATA, judge=judge, margin=margin)
    whole = given.to_json()
    kept = {"prompts": "data", "answers": "judge", "verdict": "margin"}
    parts: JsonObject = {group: {name: whole[group][name]} for group, name in kept.items()}
    return {"sources": list(pairing.sources), "targets": list(pairing.targets), **parts}


def _run(job: Job) -> RunChecks:
    settings = Settings.from_json(job.params["settings"])
    cells = msgspec.convert(job.params["cells"], tuple[Cell, ...])
    unpaired = msgspec.convert(job.params["unpaired"], tuple[UnpairedLabels, ...])
    pairs = [cell.pair for cell in cells if cell.is_ablation and cell.pair is not None]
    evidence = evidence_of_labels(inputs_of("labels", job.inputs), inputs_of("harmless", job.inputs), pairs)
    # the margin alone: nothing that was asked of a measurement may weaken the rule
    decided = decide_cells(VerdictSettings(margin=settings.verdict.margin), pairs, evidence)
    missing = _missing(settings, pairs, unpaired)
    record = Transfer(
        settings=job.params["settings"],
        model=job.params["model"],
        limits=RuleLimits(settings.verdict.margin, MAX_UNUSABLE, fewest_flips()),
        cells=tuple(_counted(cell, evidence, decided) for cell in cells),
        harmless={
            target: counted_cell(Cell(None, target, "baseline"), "harmless", labels, labels.inputs.get("completions"))
            for target, labels in evidence.harmless.items()
        },
        directions={},
        no_direction={},
        gates={},
        targets=facts_of_targets(settings.verdict, settings.targets, evidence, decided),
        imported=ImportedMatrix(
            origins=tuple(job.params["origins"]),
            judge=settings.answers.judge,
            by_position=job.params["by_position"],
            missing=missing,
            lacking=_lacking(settings, evidence, missing),
            unpaired=unpaired,
        ),
    )
    formats.write_record(job.out, record)
    return {"cells": len(cells), "unpaired": len(unpaired)}


MATRIX = Step("transfer-from-labels", 1, "transfer", _run)


def evidence_of_labels(
    labels: dict[str, Artifact], harmless: dict[str, Artifact], pairs: Sequence[LanguagePair]
) -> MatrixEvidence:
    """Labels as the evidence of a matrix that has nothing beside them."""
    none = CellControls({}, dict.fromkeys(pairs, NO_CONTROLS))
    return MatrixEvidence(
        labels=labels, harmless=harmless, removal_controls=none, induction_controls=none, gates={}, zeros={}
    )


def _counted(cell: Cell, evidence: MatrixEvidence, decided: dict[LanguagePair, CellVerdicts]) -> TransferCell:
    labels, moved = evidence.labels[cell.key], None
    if cell.source is not None:
        before = evidence.harmless[cell.target] if cell.condition == "induced" else evidence.baseline(cell.target)
        moved = flips(judged_outcomes(before), judged_outcomes(labels))
    verdicts = decided.get(cell.pair) if cell.is_ablation and cell.pair is not None else None
    removal, induction = verdicts if verdicts is not None else (None, None)
    prompts: Kind = "harmless" if cell.condition == "induced" else "harmful"
    written = labels.inputs.get("completions")
    return counted_cell(cell, prompts, labels, written, flips=moved, removal=removal, induction=induction)


def _missing(
    settings: Settings, pairs: Sequence[LanguagePair], unpaired: Sequence[UnpairedLabels]
) -> tuple[MissingCell, ...]:
    """Cells of the matrix that no labels are of."""
    found: list[MissingCell] = []
    for target in settings.targets:
        for source in (*(each for each in settings.sources if each != target), target):
            if LanguagePair(source, target) not in pairs:
                reason = _why_missing(LanguagePair(source, target), pairs, unpaired)
                condition: Condition = "native" if source == target else "transferred"
                found.append(MissingCell(source, target, condition, reason, status="not given"))
    return tuple(found)


def _why_missing(pair: LanguagePair, pairs: Sequence[LanguagePair], unpaired: Sequence[UnpairedLabels]) -> str:
    where = language_name(pair.target)
    whose = "its own" if pair.is_native else f"the {language_name(pair.source)}"
    reason = f"no labels of {where} under {whose} direction could be paired"
    elsewhere = [language_name(each.target) for each in pairs if pair.is_native and each.source == pair.target]
    if elsewhere:
        reason += f"; its direction was tried on {', '.join(elsewhere)} prompts, which says nothing about {where}"
    refused = [each.reason for each in unpaired if (each.source, each.target) == pair]
    return reason + (f"; of the labels that were given, {refused[0]}" if refused else "")


def _lacking(
    settings: Settings, evidence: MatrixEvidence, missing: Sequence[MissingCell]
) -> tuple[LackingEvidence, ...]:
    """What a measured matrix has beside its labels, and what follows where it is not there."""
    no_own = tuple(each.target for each in missing if each.condition == "native")
    no_harmless = tuple(each for each in settings.targets if each not in evidence.harmless)
    found = [
        LackingEvidence("control directions", "no cell can be called “transfers” or “reverses”"),
        LackingEvidence("own directions", "no cell there can be called “does not transfer”", no_own),
        LackingEvidence("gate", "whether the model tells harmful from harmless prompts is not known"),
        LackingEvidence("zero points", "where ablation puts a language's stream is not known"),
        LackingEvidence("harmless baselines", "how much is refused without need is not known", no_harmless),
    ]
    rows = [row for labels in evidence.labels.values() for row in read_labels(labels)]
    if all(row.off_language is None for row in rows):
        follows = "answers in another language count as what the judge calls them"
        found.append(LackingEvidence("language of the answers", follows))
    if not any(row.outcome == "degenerate" for row in rows):
        follows = "a loop or broken text counts as compliance where the judge sees no refusal"
        found.append(LackingEvidence("label for degenerate answers", follows))
    per_target = ("own directions", "harmless baselines")
    return tuple(each for each in found if each.targets or each.what not in per_target)
