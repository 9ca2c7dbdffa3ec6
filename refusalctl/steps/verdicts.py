"""The rule of `stats/verdict.py` applied to every cell of a transfer matrix: its evidence gathered from artifacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from refusalctl.settings import Settings
from refusalctl.stats.mover import change, difference
from refusalctl.stats.outcomes import read_outcome
from refusalctl.stats.paired import equivalence_p, fdr_by, holm, mcnemar_p, moves
from refusalctl.stats.power import detectable
from refusalctl.stats.rates import outcome_rate
from refusalctl.stats.verdict import INDUCTION, REMOVAL, Effect, Evidence, Verdict, decide
from refusalctl.steps.comprehension import read_comprehension
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.steps.selection.controls import read_controls
from refusalctl.store.store import Artifact

Outcomes = dict[str, str]


def judged_outcomes(artifact: Artifact) -> Outcomes:
    """Outcome by prompt id as the rule reads it: compliance in another language is `off-language`."""
    return {label.prompt_id: read_outcome(label.outcome, label.off_language) for label in read_labels(artifact)}


def clusters(artifact: Artifact) -> dict[str, str]:
    """Prompt id to the text that it is a copy or translation of."""
    return {label.prompt_id: label.cluster for label in read_labels(artifact) if label.cluster}


def null_p_values(inputs: Mapping[str, Artifact]) -> dict[str, float]:
    """p-value against control directions by cell key; transferred cells are one family and Holm-adjusted.

    A native cell is a positive control, not a claim: its p-value stays as it is.
    """
    raw = {
        name.removeprefix("controls:"): float(read_controls(artifact)["p"])
        for name, artifact in inputs.items()
        if name.startswith("controls:")
    }
    family = [key for key in raw if key.split(">")[0] != key.split(">")[1]]
    return raw | dict(zip(family, holm([raw[key] for key in family]), strict=True))


def read_gates(inputs: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Whether the model tells harmful from harmless, per target, with the reason."""
    return {
        name.removeprefix("comprehension:"): {
            "artifact": artifact.id, **{k: read_comprehension(artifact)[k] for k in ("passed", "reason")}
        }
        for name, artifact in inputs.items()
        if name.startswith("comprehension:")
    }  # fmt: skip


def decide_cells(
    settings: Settings,
    cells: Sequence[Mapping[str, Any]],
    judged: Mapping[str, Artifact],
    harmless: Mapping[str, Artifact],
    inputs: Mapping[str, Artifact],
) -> dict[str, dict[str, Any]]:
    """By key of an ablation cell: `removal`, and `induction` where the same direction was added (else None)."""
    found: dict[str, dict[str, Any]] = {}
    null, passed = null_p_values(inputs), {target: gate["passed"] for target, gate in read_gates(inputs).items()}
    # a target's own direction first: it is the positive control of the others
    for cell in sorted((c for c in cells if c["condition"] in ("native", "transferred")), key=_native_first):
        source, target = cell["source"], cell["target"]
        key, own, added = f"{source}>{target}", f"{target}>{target}", f"induced:{source}>{target}"
        common = {
            "margin": settings.verdict.margin, "require_null": settings.verdict.require_null,
            "is_native": source == target, "comprehension": passed.get(target),
        }  # fmt: skip
        removal = _decided(
            judged[f"baseline>{target}"], judged[key], REMOVAL,
            Evidence(p_null=null.get(key), native=_value(found, own, "removal"), **common), judged.get(own),
        )  # fmt: skip
        induction = None
        if added in judged:
            # control directions are compared on removal alone
            common["require_null"] = False
            held = Evidence(native=_value(found, own, "induction"), **common)
            induction = _decided(harmless[target], judged[added], INDUCTION, held, judged.get(f"induced:{own}"))
        found[key] = {"removal": removal, "induction": induction}
    for key, each in found.items():
        each["removal"]["beyond_home"] = beyond_home(key, judged)
    _add_q_values(found)
    return found


def beyond_home(key: str, judged: Mapping[str, Artifact]) -> dict[str, Any] | None:
    """Difference in differences: what a direction removes in the target minus what it removes in its own language.

    None for a native cell, and where the source is no target or was asked other prompts.
    """
    source, target = key.split(">")
    names = (f"baseline>{target}", key, f"baseline>{source}", f"{source}>{source}")
    if source == target or any(name not in judged for name in names):
        return None
    here, there, home, at_home = (judged_outcomes(judged[name]) for name in names)
    if set(here) != set(home):
        return None
    away = change(here, there, clusters=clusters(judged[names[0]]))
    return difference(away, change(home, at_home, clusters=clusters(judged[names[2]]))).as_json()


def facts_of_targets(
    settings: Settings, judged: Mapping[str, Artifact], found: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Per target: baseline refusal, how its own direction fared, and the smallest removal that n prompts could show."""
    facts = {}
    for target in settings.targets:
        outcomes = judged_outcomes(judged[f"baseline>{target}"])
        refused = Counter(outcomes.values())["refusal"]
        rate = outcome_rate(list(outcomes.values()), "refusal") if set(outcomes.values()) != {"unparsed"} else None
        facts[target] = {
            "n": len(outcomes), "refused": refused, "unparsed": rate.unparsed if rate else len(outcomes),
            "refusal95": list(rate.wilson()) if rate else None,
            "native": _value(found, f"{target}>{target}", "removal"),
            "detectable": detectable(len(outcomes), settings.verdict.margin),
        }  # fmt: skip
    return facts


def _native_first(cell: Mapping[str, Any]) -> bool:
    return bool(cell["source"] != cell["target"])


def _value(found: Mapping[str, Mapping[str, Any]], key: str, question: str) -> str | None:
    decided = found.get(key, {}).get(question)
    return str(decided["value"]) if decided else None


def _decided(
    before: Artifact, after: Artifact, question: Effect, evidence: Evidence, native: Artifact | None
) -> dict[str, Any]:
    one, other, groups = judged_outcomes(before), judged_outcomes(after), clusters(before)
    own = judged_outcomes(native) if native is not None and not evidence.is_native else None
    verdict: Verdict = decide(one, other, evidence, question, groups, native_after=own)
    found = moves(one, other, question.origin, question.goal, groups)
    # neither test knows repeated prompts; the verdict's intervals do
    alike = equivalence_p(found, evidence.margin) if found.units is None else None
    tests = {"p_mcnemar": mcnemar_p(found), "p_equivalence": alike}
    return verdict.as_json() | tests | {"native": evidence.native}


def _add_q_values(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Every cell of the matrix asks whether anything moved at all: one family per question, dependent through shared
    prompts and directions, so false discoveries are held by Benjamini and Yekutieli."""
    for question in ("removal", "induction"):
        family = [each[question] for each in found.values() if each[question] is not None]
        for verdict, q in zip(family, fdr_by([v["p_mcnemar"] for v in family]), strict=True):
            verdict["q_mcnemar"] = q
