"""`ablate`: prompts and one intervention to greedy completions, saved as they come."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from refusalctl.json_types import JsonObject
from refusalctl.progress import batches
from refusalctl.records.rows import Completion, Prompt
from refusalctl.steps.asking import encode
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.foresight import check_tokens
from refusalctl.steps.interventions import InterventionSpec, from_recipe, resolve_direction
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    from refusalctl.model.generate import GeneratedAnswer
    from refusalctl.model.hooks import Checks

COMPLETIONS_FILE = "completions.jsonl"
CHECKS_FILE = "checks.jsonl"  # beside unfinished rows: what was seen while they were written


def _run(job: Job) -> RunChecks:
    rows = read_prompts(job.inputs["prompts"])
    spec = from_recipe(job.params["intervention"], job.inputs)
    finished = FinishedRows(job.partial, COMPLETIONS_FILE)
    checks = _generate(job, rows, spec, finished)
    states = Counter(str(row["reasoning_state"]) for row in finished)
    forms = Counter(str(row["reasoning_form"]) for row in finished if row["reasoning_form"])
    if not job.bench.model.reader.watches and forms:
        _say_undeclared(job, forms)
    order = {row.id: i for i, row in enumerate(rows)}
    formats.write_rows(job.out / COMPLETIONS_FILE, sorted(finished, key=lambda row: order[str(row["prompt_id"])]))
    thoughts = {"thinking": job.bench.model.chat.thinking.label, "states": dict(states), "forms": dict(forms)}
    return {**checks, "resumed": finished.resumed, "reasoning": thoughts}


def _say_undeclared(job: Job, forms: Counter[str]) -> None:
    job.bench.note(
        f"{forms.total()} answers begin with a thought ({', '.join(forms)}), though neither the chat template nor the "
        "tokenizer says that this model thinks; the thoughts were taken out, but had no tokens of their own: "
        "--thinking on gives them --max-think-tokens"
    )


def _generate(job: Job, rows: list[Prompt], spec: InterventionSpec, finished: FinishedRows) -> RunChecks:
    """Answer what is not finished yet, writing down every batch."""
    from refusalctl.model.generate import complete

    model, intervention = job.bench.model, resolve_direction(spec)
    about = job.inputs["prompts"].about
    label = f"{spec.kind if spec.kind != 'none' else 'baseline'} {about['lang']} {about['kind']}"
    think_tokens = job.params.get("max_think_tokens") or 0
    encoded = encode(job, rows, job.params["max_new_tokens"], think_tokens=think_tokens)
    done = {row["prompt_id"] for row in finished}
    skip = frozenset(i for i, row in enumerate(rows) if row.id in done)
    noted = FinishedRows(job.partial, CHECKS_FILE)
    seen = _seen_before(noted, done)
    with batches(job.bench.progress, label, len(rows)) as advance:
        advance(len(skip))
        for indices, answers, checks in complete(
            model,
            encoded,
            intervention,
            max_new_tokens=job.params["max_new_tokens"],
            max_think_tokens=think_tokens,
            batch_size=job.bench.machine.batch_size,
            done=skip,
        ):
            fresh = [_completion(rows[i], answer) for i, answer in zip(indices, answers) if i not in skip]
            noted.add({"ids": [row.prompt_id for row in fresh], **checks.to_row()})  # first: rows count with it alone
            finished.add(*(row.to_json() for row in fresh))
            advance(len(fresh))
            seen.merge(checks)
    fast = {"repeats_steps": seen.repeated, "deviation_nats": seen.deviation}
    return seen.as_json() | {"intervention": intervention.describe()} | fast


def _seen_before(noted: FinishedRows, done: set[str]) -> Checks:
    """What was seen while the finished rows were written, each batch once: an interruption hides no check, and a report
    that tells them has the bytes of one without it."""
    from refusalctl.model.hooks import Checks

    seen, batches_ = Checks(), {tuple(row["ids"]): row for row in noted if set(row["ids"]) <= done}
    for row in batches_.values():
        seen.merge(Checks.from_row(row))
    return seen


def _completion(prompt: Prompt, answer: GeneratedAnswer) -> Completion:
    return Completion(
        prompt_id=prompt.id,
        lang=prompt.lang,
        kind=prompt.kind,
        text=answer.text,
        n_tokens=len(answer.ids),
        truncated=answer.truncated,
        token_ids=tuple(answer.ids),
        cluster=prompt.cluster,
        reasoning=answer.thought.reasoning,
        reasoning_tokens=answer.thought.n_reasoning,
        reasoning_state=answer.thought.state,
        reasoning_form=answer.thought.form,
    )


COMPLETE = Step("ablate", 3, "completions", _run, uses_model=True)


def write_completions(bench: Workbench, prompts: Artifact, spec: InterventionSpec, max_new_tokens: int) -> Artifact:
    """Greedy answers of up to `max_new_tokens` tokens to every prompt under one intervention.

    A model that thinks has the settings' `max_think_tokens` for that, apart from its answer's.
    """
    spec.check(bench)
    check_tokens(bench, prompts, spec.positions)
    params: JsonObject = {"intervention": spec.params(), "max_new_tokens": max_new_tokens, "decoding": "greedy"}
    if bench.thinking.forms:
        params |= {"thinking": bench.thinking.label, "max_think_tokens": bench.settings.answers.max_think_tokens}
    about = {"model": bench.ref.name, **prompts.about, "intervention": spec.kind}
    if bench.thinking.arm != "none":
        about["thinking"] = bench.thinking.label
    if spec.sources:
        about["direction_lang"] = "+".join(dict.fromkeys(s.artifact.about["lang"] for s in spec.sources))
    return bench.obtain(COMPLETE, params, {"prompts": prompts} | spec.inputs(), about)


def read_completions(artifact: Artifact) -> list[Completion]:
    return [Completion.from_json(row, COMPLETIONS_FILE) for row in formats.read_rows(artifact.path / COMPLETIONS_FILE)]
