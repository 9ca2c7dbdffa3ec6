"""`drift`: how far an intervention moves the next token after harmless prompts, in KL from the baseline."""

from __future__ import annotations

from refusalctl.json_types import JsonObject
from refusalctl.records.cost_rows import PromptDrift
from refusalctl.steps.asking import encode
from refusalctl.steps.foresight import check_tokens
from refusalctl.steps.interventions import InterventionSpec, from_recipe, resolve_direction
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

DRIFT_FILE = "drift.jsonl"


def _run(job: Job) -> RunChecks:
    from refusalctl.model.forward import last_logprobs
    from refusalctl.model.hooks import Checks, Intervention
    from refusalctl.stats.refusal import kl_divergence

    rows = read_prompts(job.inputs["prompts"])
    model, size = job.bench.model, job.bench.machine.batch_size
    encoded = encode(job, rows, scored=True)
    asked = resolve_direction(from_recipe(job.params["intervention"], job.inputs))
    checks, found = Checks(), list[float]()
    with job.bench.progress.task(f"KL {asked.kind} {job.inputs['prompts'].about['lang']}", len(rows)) as advance:
        for start in range(0, len(encoded), size):  # two rows of the vocabulary per prompt are held at once
            part = encoded[start : start + size]
            before = last_logprobs(model, part, Intervention(), size)
            found += kl_divergence(before, last_logprobs(model, part, asked, size, checks)).tolist()
            advance(len(part))
    # rounding may leave a divergence below 0, which it never is
    drift = [PromptDrift(row.id, max(kl, 0.0), row.cluster) for row, kl in zip(rows, found, strict=True)]
    formats.write_rows(job.out / DRIFT_FILE, (each.to_json() for each in drift))
    return checks.as_json()


DRIFT = Step("drift", 1, "drift", _run, uses_model=True)


def measure_drift(bench: Workbench, prompts: Artifact, spec: InterventionSpec) -> Artifact:
    """KL(baseline || intervened) of the next token after each prompt, nats, as `select` takes it of candidates."""
    spec.check(bench)
    check_tokens(bench, prompts, spec.positions)
    params: JsonObject = {"intervention": spec.params()}
    about: JsonObject = {"model": bench.ref.name, **prompts.about, "intervention": spec.kind}
    return bench.obtain(DRIFT, params, {"prompts": prompts} | spec.inputs(), about)


def read_drift(artifact: Artifact) -> list[PromptDrift]:
    return [PromptDrift.from_json(row, DRIFT_FILE) for row in formats.read_rows(artifact.path / DRIFT_FILE)]
