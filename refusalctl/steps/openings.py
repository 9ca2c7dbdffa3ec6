"""Refusal openings of one model and language, derived from its own judged answers to train prompts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from refusalctl.steps import completions as completion_step
from refusalctl.steps import labels as label_step
from refusalctl.steps import prompts as prompt_step
from refusalctl.steps.completions import InterventionSpec
from refusalctl.steps.directions import KINDS
from refusalctl.steps.experiment import Experiment
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

FILE = "openings.json"
MAX_NEW_TOKENS = 32  # enough to recognise an opening; the answer itself is not needed


def _run(job: Job) -> dict[str, Any]:
    from refusalctl.stats.openings import derive

    refusals, others = [], []
    for kind in KINDS:
        outcome = label_step.outcomes(job.inputs[f"labels_{kind}"])
        for row in completion_step.read(job.inputs[f"completions_{kind}"]):
            if outcome[row.prompt_id] == "refusal":
                refusals.append(row.token_ids)
            elif outcome[row.prompt_id] != "unparsed" and row.token_ids:
                others.append(row.token_ids)
    found = derive(refusals, others)
    formats.write_json(job.out / FILE, "openings", asdict(found))
    return {"coverage": found.coverage, "false_share": found.false_share, "n_openings": len(found.sequences)}


STEP = Step("openings", 1, "openings", _run)


def openings(bench: Workbench, experiment: Experiment, lang: str, langs: tuple[str, ...] = ()) -> Artifact:
    """Raises `EmptySelection` when the model refuses too little in this language to tell how it refuses."""
    inputs = {}
    for kind in KINDS:
        chosen = prompt_step.prompts(bench, experiment, lang, kind, "train", langs)
        written = completion_step.completions(bench, chosen, InterventionSpec(), MAX_NEW_TOKENS)
        inputs[f"completions_{kind}"] = written
    for kind in KINDS:  # after all writing: a judge with weights takes the model's place in memory
        inputs[f"labels_{kind}"] = label_step.labels(bench, inputs[f"completions_{kind}"], experiment.judge)
    about = {"model": bench.ref.name, "lang": lang, "data": experiment.data, "judge": experiment.judge}
    return bench.obtain(STEP, {}, inputs, about)


def read(artifact: Artifact) -> dict[str, Any]:
    return formats.read_json(artifact.path / FILE, "openings")
