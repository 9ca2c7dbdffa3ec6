"""The rule of `stats/verdict.py` applied to every cell of a transfer matrix: its evidence gathered from artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refusalctl.stats.paired import holm, mcnemar_p, moves
from refusalctl.stats.verdict import INDUCTION, REMOVAL, Evidence, Question, Verdict, decide
from refusalctl.steps import comprehension as comprehension_step
from refusalctl.steps import controls as control_step
from refusalctl.steps import labels as label_step
from refusalctl.store.store import Artifact

Outcomes = dict[str, str]


def judged_outcomes(artifact: Artifact) -> Outcomes:
    """Outcome by prompt id as the rule reads it: text in another language is `off-language`, whatever it says.

    A refusal stays one: a model that answers a Bashkir request with an English refusal has refused.
    """
    return {
        label.prompt_id: "off-language" if label.off_language and label.outcome == "compliance" else label.outcome
        for label in label_step.read(artifact)
    }


def clusters(artifact: Artifact) -> dict[str, str]:
    """Prompt id to the text that it is a copy or translation of."""
    return {label.prompt_id: label.cluster for label in label_step.read(artifact) if label.cluster}


def null_p_values(inputs: Mapping[str, Artifact]) -> dict[str, float]:
    """p-value against control directions by cell key; transferred cells are one family and Holm-adjusted.

    A native cell is a positive control, not a claim: its p-value stays as it is.
    """
    raw = {
        name.removeprefix("controls:"): float(control_step.read(artifact)["p"])
        for name, artifact in inputs.items()
        if name.startswith("controls:")
    }
    family = [key for key in raw if key.split(">")[0] != key.split(">")[1]]
    return raw | dict(zip(family, holm([raw[key] for key in family]), strict=True))


def gates(inputs: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Whether the model tells harmful from harmless, per target, with the reason."""
    return {
        name.removeprefix("comprehension:"): {
            "artifact": artifact.id, **{k: comprehension_step.read(artifact)[k] for k in ("passed", "reason")}
        }
        for name, artifact in inputs.items()
        if name.startswith("comprehension:")
    }  # fmt: skip


def verdicts(
    experiment: Mapping[str, Any],
    cells: Sequence[Mapping[str, Any]],
    judged: Mapping[str, Artifact],
    harmless: Mapping[str, Artifact],
    inputs: Mapping[str, Artifact],
) -> dict[str, dict[str, Any]]:
    """By key of an ablation cell: `removal`, and `induction` where the same direction was added (else None)."""
    found: dict[str, dict[str, Any]] = {}
    null, passed = null_p_values(inputs), {target: gate["passed"] for target, gate in gates(inputs).items()}
    # a target's own direction first: it is the positive control of the others
    for cell in sorted((c for c in cells if c["condition"] in ("native", "transferred")), key=_native_first):
        source, target = cell["source"], cell["target"]
        key, own, added = f"{source}>{target}", f"{target}>{target}", f"induced:{source}>{target}"
        common = {
            "margin": experiment["margin"], "require_null": experiment["require_null"],
            "is_native": source == target, "comprehension": passed.get(target),
        }  # fmt: skip
        removal = _decided(
            judged[f"baseline>{target}"], judged[key], REMOVAL,
            Evidence(p_null=null.get(key), native=_value(found, own, "removal"), **common),
        )  # fmt: skip
        induction = None
        if added in judged:
            # control directions are compared on removal alone
            common["require_null"] = False
            held = Evidence(native=_value(found, own, "induction"), **common)
            induction = _decided(harmless[target], judged[added], INDUCTION, held)
        found[key] = {"removal": removal, "induction": induction}
    return found


def _native_first(cell: Mapping[str, Any]) -> bool:
    return bool(cell["source"] != cell["target"])


def _value(found: Mapping[str, dict[str, Any]], key: str, question: str) -> str | None:
    decided = found.get(key, {}).get(question)
    return str(decided["value"]) if decided else None


def _decided(before: Artifact, after: Artifact, question: Question, evidence: Evidence) -> dict[str, Any]:
    one, other, groups = judged_outcomes(before), judged_outcomes(after), clusters(before)
    verdict: Verdict = decide(one, other, evidence, question, groups)
    p = mcnemar_p(moves(one, other, question.origin, question.goal))
    return verdict.as_json() | {"p_mcnemar": p, "native": evidence.native}
