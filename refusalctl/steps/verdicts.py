"""The rule of `stats/verdict.py` applied to every cell of a transfer matrix: its evidence gathered from artifacts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from refusalctl.records.cell import Cell, LanguagePair
from refusalctl.records.controls import Controls
from refusalctl.records.estimates import Estimate
from refusalctl.records.transfer import Gate, TargetFacts, ZeroPoint
from refusalctl.records.verdict import Verdict, VerdictValue
from refusalctl.settings import LEAST_CONTROLS, Settings, VerdictSettings
from refusalctl.stats.max_t import in_order, smallest_p, step_down
from refusalctl.stats.moved import possibly_removed
from refusalctl.stats.mover import change, difference
from refusalctl.stats.paired import equivalence_p, fdr_by, mcnemar_p, moves
from refusalctl.stats.power import detectable
from refusalctl.stats.verdict import ALPHA, INDUCTION, REMOVAL, Effect, Evidence, decide, shown_sign
from refusalctl.steps.comprehension import read_comprehension
from refusalctl.steps.counts import judged_outcomes, outcome_counts, rate_of_counts
from refusalctl.steps.input_names import inputs_of
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.steps.selection.control_effects import read_controls
from refusalctl.steps.zero_points import zero_points
from refusalctl.store.store import Artifact


class CellVerdicts(NamedTuple):
    """Of an ablation cell, and of the same direction added to harmless prompts where that was done."""

    removal: Verdict
    induction: Verdict | None


class Effects(NamedTuple):
    """What the real direction does in one cell, and each draw of its control directions (log-odds)."""

    real: float
    draws: tuple[float, ...]


class Compared(NamedTuple):
    """A cell against its control directions, adjusted: p in the claimed sense, in the opposite one, and the least p.
    `behind`: the pair before it whose p this is, where one in the order does not stand."""

    p: float
    p_reverse: float
    smallest: float
    behind: LanguagePair | None = None


@dataclass(frozen=True)
class CellControls:
    """Comparisons by pair of languages for one question, and why a pair has none although controls were asked for."""

    compared: Mapping[LanguagePair, Compared]
    lacking: Mapping[LanguagePair, str]

    def beside(self, pair: LanguagePair) -> dict[str, Any]:
        """As the rule's evidence names them."""
        found = self.compared.get(pair)
        if found is None:
            return {"no_controls": self.lacking.get(pair)}
        told = {"p_null": found.p, "p_reverse": found.p_reverse, "smallest_p": found.smallest}
        return told if found.behind is None else told | {"behind": str(found.behind)}


@dataclass(frozen=True)
class MatrixEvidence:
    """Labels by cell and by target, and what the rule looks at beside them."""

    labels: Mapping[str, Artifact]
    harmless: Mapping[str, Artifact]
    removal_controls: CellControls
    induction_controls: CellControls
    gates: Mapping[str, Gate]
    zeros: Mapping[LanguagePair, ZeroPoint]
    answers_decide: bool = False  # those under control directions

    @classmethod
    def of(
        cls, inputs: Mapping[str, Artifact], uncontrolled: Mapping[LanguagePair, str], settings: Settings
    ) -> MatrixEvidence:
        """What a transfer's inputs say. `uncontrolled`: why a pair has no controls that were asked for, as a clause
        whose subject they are."""
        removal, induction = cell_controls(inputs, uncontrolled, settings.verdict.rank, claims_in_order(settings))
        return cls(
            inputs_of("labels", inputs),
            inputs_of("harmless", inputs),
            removal,
            induction,
            read_gates(inputs),
            zero_points(inputs),
            settings.controls.controls and settings.controls.control_completions >= LEAST_CONTROLS,
        )

    def baseline(self, target: str) -> Artifact:
        return self.labels[Cell(None, target, "baseline").key]

    def ablated(self, pair: LanguagePair) -> Artifact | None:
        return self.labels.get(str(pair))

    def drawn(self, pair: LanguagePair) -> tuple[float, ...] | None:
        """What every control draw whose answers were written may remove; None where these decide nothing."""
        if not self.answers_decide or pair not in self.removal_controls.compared:
            return None
        before = judged_outcomes(self.baseline(pair.target))
        draws = (Cell(*pair, "within_class", draw=draw).key for draw in count())
        labels = takewhile(lambda each: each is not None, (self.labels.get(key) for key in draws))
        return tuple(possibly_removed(before, judged_outcomes(each)) for each in labels if each is not None)

    def added(self, pair: LanguagePair) -> Artifact | None:
        """At the dose that the verdict is about."""
        return self.labels.get(Cell(pair.source, pair.target, "induced").key)


def clusters(labels: Artifact) -> dict[str, str]:
    """Prompt id to the text that it is a copy or translation of."""
    return {label.prompt_id: label.cluster for label in read_labels(labels) if label.cluster}


def claims_in_order(settings: Settings) -> list[LanguagePair] | None:
    """Transferred pairs in the order in which they are tested, target by target; None: all are one family."""
    if settings.controls.control_family != "in-order":
        return None
    return [LanguagePair(s, t) for t in settings.targets for s in settings.sources if s != t]


def cell_controls(
    inputs: Mapping[str, Artifact],
    uncontrolled: Mapping[LanguagePair, str],
    rank: int,
    order: Sequence[LanguagePair] | None = None,
) -> tuple[CellControls, CellControls]:
    """Control directions beside every cell, for removal and for induction. `order`: see `against_controls`."""
    records = {
        LanguagePair.parse(key): read_controls(artifact) for key, artifact in inputs_of("controls", inputs).items()
    }
    why = {pair: f"control directions {reason}" for pair, reason in uncontrolled.items()}
    matching = {pair: each for pair, each in records.items() if each.rank == rank}
    unlike = {
        pair: f"there are no matching control directions: theirs is rank {each.rank}, {rank} are ablated together here"
        for pair, each in records.items()
        if each.rank != rank
    }
    rises = {pair: found for pair, each in records.items() if (found := _rises(each)) is not None}
    return (
        CellControls(against_controls({pair: _drops(each) for pair, each in matching.items()}, order), why | unlike),
        CellControls(against_controls(rises, order), why),
    )


def _drops(record: Controls) -> Effects:
    return Effects(record.drop, tuple(each.drop for each in record.draws))


def _rises(record: Controls) -> Effects | None:
    if record.added is None:
        return None
    return Effects(record.added.rise, record.added.rises)


def against_controls(
    cells: Mapping[LanguagePair, Effects], order: Sequence[LanguagePair] | None = None
) -> dict[LanguagePair, Compared]:
    """Every cell against its draws. All transferred cells are one family, adjusted together by step-down max-T, also
    those whose behaviour clears no margin: a family picked by what the same directions do would not keep its promise.
    A draw of a source is the same direction in all its targets; draws of different sources share nothing but their
    number and are paired by it. A native cell is a positive control, not a claim: it is a family of its own. With an
    `order` of the transferred pairs each is tested alone, if all before it stand; the other tail stays one family.
    """
    claims = [pair for pair in cells if not pair.is_native]
    found: dict[LanguagePair, Compared] = {}
    for group in (claims, *([pair] for pair in cells if pair.is_native)):
        if not group:
            continue
        real = [cells[pair].real for pair in group]
        null = np.array([cells[pair].draws for pair in group], float).T
        forth, back = step_down(real, null), step_down([-value for value in real], -null)
        for pair, p, p_reverse in zip(group, forth, back, strict=True):
            found[pair] = Compared(p, p_reverse, smallest_p(len(null)))
    return found if order is None else found | _in_order(cells, found, order)


def _in_order(
    cells: Mapping[LanguagePair, Effects], found: Mapping[LanguagePair, Compared], order: Sequence[LanguagePair]
) -> dict[LanguagePair, Compared]:
    """The order's pairs at the largest p so far, and which pair's that is."""
    own = [step_down([cells[p].real], [[d] for d in cells[p].draws])[0] if p in cells else None for p in order]
    adjusted: dict[LanguagePair, Compared] = {}
    open_: LanguagePair | None = None
    for pair, alone, p in zip(order, own, in_order(own), strict=True):
        if pair in cells:
            adjusted[pair] = found[pair]._replace(p=p, behind=open_ if alone is not None and p > alone else None)
        if alone is None or alone == p > ALPHA:
            open_ = pair
    return adjusted


def read_gates(inputs: Mapping[str, Artifact]) -> dict[str, Gate]:
    """Whether the model tells harmful from harmless, per target, with the reason."""
    gates = {}
    for target, artifact in inputs_of("comprehension", inputs).items():
        measured = read_comprehension(artifact)
        gates[target] = Gate(artifact.id, measured.passed, measured.reason)
    return gates


def decide_cells(
    settings: VerdictSettings, pairs: Iterable[LanguagePair], evidence: MatrixEvidence
) -> dict[LanguagePair, CellVerdicts]:
    """Both verdicts of every ablation cell. A target's own direction comes first: the others' positive control."""
    decided: dict[LanguagePair, CellVerdicts] = {}
    for pair in sorted(pairs, key=lambda pair: not pair.is_native):
        own = decided.get(LanguagePair(pair.target, pair.target))
        induction = _induction(settings, pair, evidence, own.induction.value if own and own.induction else None)
        removal = _removal(settings, pair, evidence, own.removal.value if own else None, induction)
        decided[pair] = CellVerdicts(removal, induction)
    for pair, verdicts in decided.items():
        removal = replace(verdicts.removal, beyond_home=beyond_home(pair, evidence))
        decided[pair] = verdicts._replace(removal=removal)
    return _with_q_values(decided)


def _removal(
    settings: VerdictSettings,
    pair: LanguagePair,
    evidence: MatrixEvidence,
    native: VerdictValue | None,
    induction: Verdict | None,
) -> Verdict:
    zero, own = evidence.zeros.get(pair), LanguagePair(pair.target, pair.target)
    beside = dataclasses.replace(
        _shared(settings, pair, evidence, native),
        **evidence.removal_controls.beside(pair),
        drawn=evidence.drawn(pair),
        zero=zero.place if zero else None,
        added=shown_sign(induction, settings.margin) if induction else 0,
    )
    after = evidence.labels[str(pair)]
    return _verdict(evidence.baseline(pair.target), after, REMOVAL, beside, evidence.ablated(own))


def affine_removal(
    settings: VerdictSettings,
    pair: LanguagePair,
    evidence: MatrixEvidence,
    decided: Mapping[LanguagePair, CellVerdicts],
) -> Verdict:
    """The rule on affine ablation, which has no zero point. Control directions were ablated to 0, so none match it."""
    own = LanguagePair(pair.target, pair.target)
    native = decided[own].removal.value if own in decided and not pair.is_native else None
    none = "there are no matching control directions for affine ablation: theirs were ablated to 0"
    beside = dataclasses.replace(_shared(settings, pair, evidence, native), no_controls=none)
    after = evidence.labels[Cell(pair.source, pair.target, "affine").key]
    return _verdict(evidence.baseline(pair.target), after, REMOVAL, beside, evidence.ablated(own))


def _induction(
    settings: VerdictSettings, pair: LanguagePair, evidence: MatrixEvidence, native: VerdictValue | None
) -> Verdict | None:
    after = evidence.added(pair)
    if after is None:
        return None
    own = LanguagePair(pair.target, pair.target)
    beside = dataclasses.replace(_shared(settings, pair, evidence, native), **evidence.induction_controls.beside(pair))
    return _verdict(evidence.harmless[pair.target], after, INDUCTION, beside, evidence.added(own))


def _shared(
    settings: VerdictSettings, pair: LanguagePair, evidence: MatrixEvidence, native: VerdictValue | None
) -> Evidence:
    """Evidence that both questions look at."""
    gate = evidence.gates.get(pair.target)
    return Evidence(
        margin=settings.margin,
        native=native,
        is_native=pair.is_native,
        comprehension=gate.passed if gate else None,
    )


def _verdict(
    before: Artifact, after: Artifact, question: Effect, evidence: Evidence, native: Artifact | None
) -> Verdict:
    one, other, groups = judged_outcomes(before), judged_outcomes(after), clusters(before)
    own = judged_outcomes(native) if native is not None and not evidence.is_native else None
    verdict = decide(one, other, evidence, question, groups, native_after=own)
    moved = moves(one, other, question.origin, question.goal, groups)
    # neither test knows repeated prompts; the verdict's intervals do
    alike = equivalence_p(moved, evidence.margin) if moved.units is None else None
    return replace(verdict, native=evidence.native, p_mcnemar=mcnemar_p(moved), p_equivalence=alike)


def beyond_home(pair: LanguagePair, evidence: MatrixEvidence) -> Estimate | None:
    """Difference in differences: what a direction removes in the target minus what it removes in its own language.

    None for a native cell, and where the source is no target or was asked other prompts.
    """
    home_pair = LanguagePair(pair.source, pair.source)
    keys = (Cell(None, pair.target, "baseline").key, str(pair), Cell(None, pair.source, "baseline").key, str(home_pair))
    if pair.is_native or any(key not in evidence.labels for key in keys):
        return None
    here, there, home, at_home = (judged_outcomes(evidence.labels[key]) for key in keys)
    if set(here) != set(home):
        return None
    away = change(here, there, clusters=clusters(evidence.labels[keys[0]]))
    own: Estimate | None = difference(away, change(home, at_home, clusters=clusters(evidence.labels[keys[2]])))
    return own


def facts_of_targets(
    settings: VerdictSettings,
    targets: Sequence[str],
    evidence: MatrixEvidence,
    decided: Mapping[LanguagePair, CellVerdicts],
) -> dict[str, TargetFacts]:
    """Per target: baseline refusal, how its own direction fared, and the smallest removal that n prompts could show."""
    facts = {}
    for target in targets:
        outcomes = judged_outcomes(evidence.baseline(target))
        counts = outcome_counts(outcomes)
        rate, own = rate_of_counts(counts, "refusal"), decided.get(LanguagePair(target, target))
        facts[target] = TargetFacts(
            n=len(outcomes),
            refused=counts.refusal,
            unparsed=counts.unparsed,
            refusal95=rate.interval95 if rate else None,
            native=own.removal.value if own else None,
            detectable=detectable(len(outcomes), settings.margin),
        )
    return facts


def _with_q_values(decided: Mapping[LanguagePair, CellVerdicts]) -> dict[LanguagePair, CellVerdicts]:
    """Every cell of the matrix asks whether anything moved at all: one family per question, dependent through shared
    prompts and directions, so false discoveries are held by Benjamini and Yekutieli."""
    removals = _adjusted({pair: each.removal for pair, each in decided.items()})
    inductions = _adjusted({pair: each.induction for pair, each in decided.items() if each.induction is not None})
    return {pair: CellVerdicts(removals[pair], inductions.get(pair)) for pair in decided}


def _adjusted(family: Mapping[LanguagePair, Verdict]) -> dict[LanguagePair, Verdict]:
    p_values = [verdict.p_mcnemar for verdict in family.values() if verdict.p_mcnemar is not None]
    return {
        pair: replace(verdict, q_mcnemar=q) for (pair, verdict), q in zip(family.items(), fdr_by(p_values), strict=True)
    }
