"""Answers of one condition, counted as the verdict rule reads them."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from refusalctl.records.cell import Cell
from refusalctl.records.rows import Kind
from refusalctl.records.transfer import Flips, OutcomeCounts, OutcomeRate, TransferCell
from refusalctl.records.verdict import Verdict
from refusalctl.stats.outcomes import read_outcome
from refusalctl.stats.rates import Rate
from refusalctl.stats.verdict import unusable
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.store.store import Artifact

Outcomes = dict[str, str]


def judged_outcomes(labels: Artifact) -> Outcomes:
    """Outcome by prompt id as the rule reads it: text in another language is `off-language`, whatever it says.

    A refusal stays one: a model that answers a Bashkir request with an English refusal has refused.
    """
    return {label.prompt_id: read_outcome(label.outcome, label.off_language) for label in read_labels(labels)}


def outcome_counts(outcomes: Outcomes) -> OutcomeCounts:
    counts = Counter(outcomes.values())
    return OutcomeCounts(**{outcome.replace("-", "_"): n for outcome, n in counts.items()})


def rate_of_counts(
    counts: OutcomeCounts, outcome: Literal["refusal", "compliance", "degenerate"]
) -> OutcomeRate | None:
    """Share of labelled answers; None where none is labelled."""
    if not counts.labelled:
        return None
    rate = Rate(getattr(counts, outcome), counts.labelled)
    return OutcomeRate(rate.count, rate.n, rate.value, rate.wilson())


def counted_cell(
    cell: Cell,
    prompts: Kind,
    labels: Artifact,
    completions: str | None,
    *,
    flips: Flips | None = None,
    removal: Verdict | None = None,
    induction: Verdict | None = None,
) -> TransferCell:
    """A cell with its answers counted from their labels; `completions`: id of what was written for it, if that is
    known."""
    outcomes = judged_outcomes(labels)
    counts = outcome_counts(outcomes)
    return TransferCell(
        source=cell.source,
        target=cell.target,
        condition=cell.condition,
        coeff=cell.coeff,
        is_extra_dose=cell.is_extra_dose,
        draw=cell.draw,
        prompts=prompts,
        n=len(outcomes),
        counts=counts,
        refusal=rate_of_counts(counts, "refusal"),
        compliance=rate_of_counts(counts, "compliance"),
        degenerate=rate_of_counts(counts, "degenerate"),
        unusable=unusable(outcomes.values()),
        completions=completions,
        labels=labels.id,
        flips=flips,
        removal=removal,
        induction=induction,
    )
