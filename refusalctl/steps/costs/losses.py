"""`losses`: how well the model predicts given texts, or its own baseline answers, under one intervention or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from refusalctl.data.documents import Documents
from refusalctl.errors import BadInput, EmptySelection
from refusalctl.json_types import JsonObject
from refusalctl.progress import batches
from refusalctl.records.cost_rows import DocumentLoss
from refusalctl.steps.asking import encode
from refusalctl.steps.completions import read_completions
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.interventions import InterventionSpec, from_recipe, resolve_direction
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    from refusalctl.model.perplexity import TokenText

LOSSES_FILE = "losses.jsonl"


class _Document(NamedTuple):
    """What is predicted: parts of a document, its size, and what it counts as one with."""

    id: str
    parts: Sequence[TokenText]
    bytes: int
    cluster: str = ""


def _texts(job: Job, documents: Documents) -> list[_Document]:
    from refusalctl.model.control_tokens import neutral
    from refusalctl.model.perplexity import windows

    model, found = job.bench.model, list[_Document]()
    for identifier, text in documents.texts.items():
        clean = neutral(model.tokenizer, text)
        found.append(_Document(identifier, windows(model, clean), len(clean.encode())))
    return found


def _answers(job: Job) -> list[_Document]:
    """Answers behind their prompts, as the model wrote them. Empty ones have no tokens to predict."""
    from refusalctl.model.perplexity import TokenText

    prompts = {row.id: row for row in read_prompts(job.inputs["prompts"])}
    rows = [row for row in read_completions(job.inputs["completions"]) if row.token_ids]
    if not rows:
        raise EmptySelection(f"{job.inputs['completions'].label} holds no answer with a token")
    encoded = encode(job, [prompts[row.prompt_id] for row in rows], scored=True)
    return [
        _Document(row.prompt_id, [TokenText([*ids, *row.token_ids], len(ids))], len(row.text.encode()), row.cluster)
        for row, ids in zip(rows, encoded, strict=True)
    ]


def _run(job: Job, documents: Documents | None = None) -> RunChecks:
    from refusalctl.model.hooks import Checks
    from refusalctl.model.perplexity import nats_of

    if documents is None and "completions" not in job.inputs:
        raise BadInput("losses of a text need that text again", hint="run the command that made them")
    asked = resolve_direction(from_recipe(job.params["intervention"], job.inputs))
    whole = _answers(job) if documents is None else _texts(job, documents)
    parts = [(i, part) for i, each in enumerate(whole) for part in each.parts]
    finished = FinishedRows(job.partial, LOSSES_FILE)
    done = frozenset(int(row["part"]) for row in finished)
    checks = Checks()
    label = f"loss {asked.kind if asked.kind != 'none' else 'baseline'} {job.params.get('lang', '')}".rstrip()
    with batches(job.bench.progress, label, len(parts)) as advance:
        advance(len(done))
        sequences = [part for _, part in parts]
        for index, nats in nats_of(job.bench.model, sequences, asked, job.bench.machine.batch_size, checks, done):
            if index not in done:
                finished.add({"part": index, "nats": nats})
                advance()
    nats_by_part = {int(row["part"]): float(row["nats"]) for row in finished}
    losses = []
    for i, each in enumerate(whole):
        mine = [(nats_by_part[j], part) for j, (owner, part) in enumerate(parts) if owner == i]
        tokens = sum(len(part.ids) - part.start for _, part in mine)
        losses.append(DocumentLoss(each.id, sum(nats for nats, _ in mine), tokens, each.bytes, each.cluster))
    formats.write_rows(job.out / LOSSES_FILE, (loss.to_json() for loss in losses))
    return {**checks.as_json(), "parts": len(parts), "resumed": finished.resumed}


LOSSES = Step("losses", 1, "losses", _run, uses_model=True)


def _check(bench: Workbench, spec: InterventionSpec) -> None:
    spec.check(bench)
    if spec.positions is not None:
        raise BadInput(
            "an intervention at chosen positions of the prompt has no meaning for the loss of a text",
            hint="leave --at-positions out",
        )


def measure_text_losses(bench: Workbench, documents: Documents, lang: str, spec: InterventionSpec) -> Artifact:
    """-log P of every document, without chat template. The texts stay where they are: the recipe holds their digest,
    the result numbers only."""
    _check(bench, spec)
    params: JsonObject = {"intervention": spec.params(), "text": documents.digest, "lang": lang}
    about: JsonObject = {
        "model": bench.ref.name,
        "lang": lang,
        "text": documents.name,
        "n": len(documents.texts),
        "intervention": spec.kind,
    }
    return bench.obtain(replace(LOSSES, run=partial(_run, documents=documents)), params, spec.inputs(), about)


def measure_answer_losses(
    bench: Workbench, completions: Artifact, prompts: Artifact, spec: InterventionSpec
) -> Artifact:
    """-log P of every baseline answer behind its prompt: how likely the intervened model still finds it."""
    _check(bench, spec)
    params: JsonObject = {"intervention": spec.params(), "lang": completions.about["lang"]}
    about: JsonObject = {"model": bench.ref.name, **prompts.about, "text": "own answers", "intervention": spec.kind}
    inputs = {"completions": completions, "prompts": prompts} | spec.inputs()
    return bench.obtain(LOSSES, params, inputs, about)


def read_losses(artifact: Artifact) -> list[DocumentLoss]:
    return [DocumentLoss.from_json(row, LOSSES_FILE) for row in formats.read_rows(artifact.path / LOSSES_FILE)]
