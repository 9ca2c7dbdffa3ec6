"""`labels correct`: a judge's sensitivity and specificity by people's labels, and its rates corrected for its errors.

One calibration per language and judge, pooled over the conditions of the sample: a judge is taken to err alike in all
of them. Where it does not, corrected rates of single conditions are off; then correct each condition by a sample of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.records.correction import (
    ConditionRate,
    CorrectedRate,
    JudgeAccuracy,
    JudgeCorrection,
    JudgedRate,
    OutcomeCorrection,
    RateCorrections,
)
from refusalctl.stats.judge_error import SampleCell, better_than_chance, corrected, errors
from refusalctl.stats.outcomes import USABLE
from refusalctl.stats.rates import outcome_rate
from refusalctl.steps.labelling.human import HUMAN, read_sample
from refusalctl.steps.labelling.labels import outcomes_by_prompt
from refusalctl.steps.labelling.panel import judge_name
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    from refusalctl.stats.judge_error import JudgeErrors, SampleCell, Share


def _run(job: Job) -> RunChecks:
    judged, human = _inputs(job, "labels:"), _inputs(job, "human:")
    samples = {a.id: a for a in _inputs(job, "sample:")}
    judges: dict[tuple[str, str], list[Artifact]] = {}
    for artifact in judged:
        judges.setdefault((artifact.about["lang"], judge_name(artifact)), []).append(artifact)
    value = RateCorrections(
        annotators=tuple(sorted({str(a.about["judge"]) for a in human})),
        judges=tuple(
            _judge(lang, name, each, [a for a in human if a.about["lang"] == lang], samples)
            for (lang, name), each in judges.items()
        ),
    )
    formats.write_record(job.out, value)
    return {"judges": len(judges)}


def _inputs(job: Job, prefix: str) -> list[Artifact]:
    return [a for name, a in sorted(job.inputs.items()) if name.startswith(prefix)]


def _judge(
    lang: str, name: str, judged: Sequence[Artifact], human: Sequence[Artifact], samples: Mapping[str, Artifact]
) -> JudgeCorrection:
    """JudgeErrors and corrected rates of one judge in one language, for refusals and for compliance."""
    said = {a.inputs["completions"]: outcomes_by_prompt(a) for a in judged}
    people = {a.inputs["completions"]: outcomes_by_prompt(a) for a in human}
    weights, bare = _weights(human, people, samples)
    found: dict[str, OutcomeCorrection] = {}
    for outcome in USABLE:
        calibration, why = (None, bare) if bare else _errors(said, people, weights, outcome)
        found[outcome] = OutcomeCorrection(
            sensitivity=_accuracy(calibration.sensitivity) if calibration else None,
            specificity=_accuracy(calibration.specificity) if calibration else None,
            reason=why,
            rates=tuple(_rate(a, said[a.inputs["completions"]], outcome, calibration, why) for a in judged),
        )
    both = [(said[c][i], people[c][i]) for c in people if c in said for i in people[c]]
    unsure = sum("unparsed" in pair for pair in both)
    return JudgeCorrection(lang, name, len(both), unsure, **found)


def _weights(
    human: Sequence[Artifact], people: Mapping[str, Mapping[str, str]], samples: Mapping[str, Artifact]
) -> tuple[dict[tuple[str, str], tuple[str, float]], str]:
    """Stratum and completions per labelled one, by completions and prompt, and which stratum has no label at all.

    Rows without a label, or that left the annotator unsure, do not count as labelled: the others of their stratum stand
    for them.
    """
    found, bare = {}, ""
    for artifact in human:
        source = artifact.inputs["completions"]
        rows = [r for r in read_sample(samples[artifact.inputs["sample"]]) if r.completions == source]
        answered = [r for r in rows if people[source].get(r.prompt_id, "unparsed") != "unparsed"]
        labelled: dict[str, int] = {}
        for row in answered:
            labelled[row.outcome] = labelled.get(row.outcome, 0) + 1
        empty = sorted({r.outcome for r in rows} - set(labelled) - {"unparsed"})
        if empty:
            bare = f"people labelled none of the completions that were drawn as {empty[0]} in {artifact.label}"
        found.update({(source, r.prompt_id): (f"{source}:{r.outcome}", r.size / labelled[r.outcome]) for r in answered})
    return found, bare


def _errors(
    said: Mapping[str, Mapping[str, str]],
    people: Mapping[str, Mapping[str, str]],
    weights: Mapping[tuple[str, str], tuple[str, float]],
    outcome: str,
) -> tuple[JudgeErrors | None, str]:
    """The calibration, or why there is none."""
    counts: dict[tuple[str, bool, float], list[int]] = {}
    for (source, prompt), (stratum, weight) in weights.items():
        verdict = said.get(source, {}).get(prompt, "unparsed")
        if verdict != "unparsed":
            cell = counts.setdefault((stratum, verdict == outcome, weight), [0, 0])
            cell[0] += 1
            cell[1] += people[source][prompt] == outcome
    cells: list[SampleCell] = [SampleCell(judged, weight, *n) for (_, judged, weight), n in counts.items()]
    try:
        found = errors(cells)
    except BadInput as error:
        return None, str(error)
    if not better_than_chance(found):
        return found, f"not shown to be better than chance (sensitivity + specificity - 1 = {found.youden:.2f})"
    return found, ""


def _accuracy(found: Share) -> JudgeAccuracy:
    return JudgeAccuracy(found.value, found.interval, found.n, round(found.effective, 1))


def _rate(
    artifact: Artifact, outcomes: Mapping[str, str], outcome: str, calibration: JudgeErrors | None, why: str
) -> ConditionRate:
    """The judge's own rate in one condition, and the corrected one, None with its reason where there is none."""
    rate, fixed = None, None
    try:
        own = outcome_rate(list(outcomes.values()), outcome)
        rate = JudgedRate(own.count, own.n, own.unparsed, own.value, own.wilson())
        fixed = _corrected(rate, calibration) if calibration and not why else None
    except BadInput as error:
        why = str(error)
    about = {k: artifact.about.get(k) for k in ("intervention", "condition", "direction_lang", "kind")}
    return ConditionRate(artifact.id, **about, rate=rate, corrected=fixed, reason=why)


def _corrected(rate: JudgedRate, calibration: JudgeErrors) -> CorrectedRate:
    return CorrectedRate(*corrected(rate.count, rate.n, calibration))


CORRECT = Step("correct", 2, "correction", _run)


def correct_rates(bench: Workbench, labels: Sequence[Artifact], human: Sequence[Artifact]) -> Artifact:
    """JudgeErrors and corrected rates of every judge and language among `labels`, by the people's labels `human`.

    Raises `BadInput` when `human` are no people's labels, come from two annotators for one completions artifact, or
    none of them is of completions that a judge labelled.
    """
    for each in human:
        if not str(each.about.get("judge", "")).startswith(HUMAN) or "sample" not in each.inputs:
            raise BadInput(f"{each.label} holds no people's labels", hint="they come from `refusalctl labels import`")
    sources = [each.inputs["completions"] for each in human]
    if len(set(sources)) < len(sources):
        raise BadInput("two annotators labelled the same completions", hint="make a panel of them, or choose one")
    judged = {each.id: each for each in labels if not str(each.about["judge"]).startswith(HUMAN)}
    if not any(each.inputs.get("completions") in sources for each in judged.values()):
        raise BadInput(
            "these labels are of other completions than the people's", hint="correct the judge of the sample"
        )
    lonely = [each for each in judged.values() if "completions" not in each.inputs]
    if lonely:
        raise BadInput(f"{lonely[0].label} does not say which completions it labels")
    inputs = {f"labels:{i}": a for i, a in enumerate(sorted(judged.values(), key=lambda a: a.id))}
    inputs |= {f"human:{i}": a for i, a in enumerate(sorted(human, key=lambda a: a.id))}
    identifiers = sorted({each.inputs["sample"] for each in human})
    inputs |= {f"sample:{i}": bench.store.open("sample", s) for i, s in enumerate(identifiers)}
    about: JsonObject = {
        "langs": ",".join(sorted({a.about["lang"] for a in human})),
        "judges": ", ".join(sorted({judge_name(a) for a in judged.values()})),
        "n": sum(int(a.about["labelled"]) for a in human),
    }
    return bench.obtain(CORRECT, {}, inputs, about)


def read_correction(artifact: Artifact) -> RateCorrections:
    return formats.read_record(artifact.path, RateCorrections)
