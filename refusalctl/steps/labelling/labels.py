"""`judge`: completions to labels, saved as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from refusalctl.data.response_language import response_language
from refusalctl.errors import BadInput
from refusalctl.model.judges import declared
from refusalctl.model.judges.degenerate_first import judge_rows
from refusalctl.model.judges.protocol import Item
from refusalctl.progress import batches
from refusalctl.records.rows import Completion, Label
from refusalctl.steps.completions import read_completions
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.labelling.translations import translated_items, translations_of
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    from refusalctl.model.judges.protocol import Declaration, Item, Verdict

LABELS_FILE = "labels.jsonl"


def _run(job: Job) -> RunChecks:
    judge = job.bench.judges[job.params["judge_digest"]]
    rows = read_completions(job.inputs["completions"])
    order = {row.prompt_id: i for i, row in enumerate(rows)}
    finished = FinishedRows(job.partial, LABELS_FILE)
    if len(finished) < len(rows):
        job.bench.make_room_for(judge)
        _judge(job, rows, finished, frozenset(order[row["prompt_id"]] for row in finished))
    formats.write_rows(job.out / LABELS_FILE, sorted(finished, key=lambda row: order[str(row["prompt_id"])]))
    counts = Counter(str(row["outcome"]) for row in finished)
    off = sum(row["off_language"] is True for row in finished)
    return {**counts, "off_language": off, "resumed": finished.resumed, **_machine(job, judge.declaration)}


def _judge(job: Job, rows: list[Completion], finished: FinishedRows, done: frozenset[int]) -> None:
    judge = job.bench.judges[job.params["judge_digest"]]
    items = items_of(rows, job.inputs.get("prompts"))
    english = translated_items(items, job.inputs)
    about = job.inputs["completions"].about
    with batches(job.bench.progress, f"{judge.declaration.name} {about['lang']}", len(rows)) as advance:
        advance(len(done))
        for i, verdict in judge_rows(judge, items, done, english):
            finished.add(label_of(rows[i], verdict, judge.declaration.name).to_json())
            advance(1)


def _machine(job: Job, declaration: Declaration) -> RunChecks:
    """Which device and libraries a judge with weights ran on."""
    if declaration.model is None:
        return {}
    from refusalctl.model.load import pick_device, pick_dtype, versions

    bench = job.bench
    return {
        "device": pick_device(bench.machine.device),
        "dtype": pick_dtype(bench.judge_dtype, bench.machine.device),
        "batch_size": bench.machine.batch_size,
        **versions(),
    }


def items_of(rows: Sequence[Completion], prompts: Artifact | None) -> list[Item]:
    """What a judge is given. Raises `BadInput` naming a completion whose prompt the artifact does not hold."""
    if prompts is None:
        return [Item(None, row.text, row.lang, row.unfinished) for row in rows]
    texts = {prompt.id: prompt.text for prompt in read_prompts(prompts)}
    missing = [row.prompt_id for row in rows if row.prompt_id not in texts]
    if missing:
        raise BadInput(
            f"{len(missing)} of {len(rows)} completions answer no prompt of {prompts.label} (first: {missing[0]!r})",
            hint="judge them with the prompts that they were written to",
        )
    return [Item(texts[row.prompt_id], row.text, row.lang, row.unfinished) for row in rows]


def label_of(row: Completion, verdict: Verdict, judge: str) -> Label:
    """A verdict with the attributes of its completion."""
    found = response_language(row.text, row.lang)
    return Label(
        prompt_id=row.prompt_id,
        outcome=verdict.outcome,  # type: ignore[arg-type]
        judge=judge,
        reason=verdict.reason,
        truncated=row.truncated,
        cluster=row.cluster,
        harmful=verdict.harmful,
        score=verdict.score,
        input_cut=verdict.input_cut,
        lang=found.lang,
        lang_score=found.score,
        lang_near=found.near,
        off_language=found.off,
    )


JUDGE = Step("judge", 4, "labels", _run)


def check_judge(spec: str, lang: str, *, harm_only: bool = False) -> Declaration:
    """The declared judge of `NAME` or `NAME=MODEL`, found out before the work.

    Raises `BadInput` for an unknown judge, a language that it cannot judge, or one that gives no refusal label where
    that is needed.
    """
    asked = declared(spec)
    if asked.only_listed and not asked.knows(lang):
        raise BadInput(
            f"the judge {asked.name!r} does not know the language {lang!r}",
            hint=f"it knows {', '.join(asked.languages or ())}",
        )
    if not asked.refusal_label and not harm_only:
        raise BadInput(
            f"the judge {asked.name!r} rates harm and gives no refusal label",
            hint="refusal is measured with another judge; see `refusalctl judge --list`",
        )
    return asked


def check_judge_is_there(bench: Workbench, spec: str, langs: Sequence[str]) -> None:
    """Find out before hours of work whether this judge is there and can label these languages."""
    for lang in langs:
        check_judge(spec, lang)
    bench.judge(spec)


def judge_completions(
    bench: Workbench,
    completions: Artifact,
    judge: str,
    *,
    harm_only: bool = False,
    translations: Artifact | None = None,
) -> Artifact:
    """One label per completion by `NAME` or `NAME=MODEL`, of the text itself or of its `translations` into English.

    Raises what `check_judge` does, and `ModelError` when the judge's model is not there or its endpoint gives up;
    finished labels are kept for the next run.
    """
    lang = completions.about["lang"] if translations is None else "en"
    asked = check_judge(judge, lang, harm_only=harm_only)
    if not asked.knows(lang):
        bench.note(f"the judge {asked.name!r} was not made for {lang!r}: check its labels against people's")
    if not asked.verified:
        bench.note(f"the input format of {asked.name!r} is inferred, not documented")
    opened = bench.judge(judge)
    if bench.dry_run:
        bench.foresee_judges()
    inputs = {"completions": completions}
    if asked.needs_prompt:
        inputs["prompts"] = _prompts_of(bench, completions)
    params, about = {"judge": asked.name, "judge_digest": opened.digest}, {**completions.about, "judge": asked.name}
    if translations is not None:
        inputs["translations"] = translations_of(completions, translations)
        about |= {"text": "back-translation", "translator": translations.about.get("translator")}
    return bench.obtain(JUDGE, params, inputs, about)


def _prompts_of(bench: Workbench, completions: Artifact) -> Artifact:
    identifier = completions.inputs.get("prompts")
    if identifier is None:
        raise BadInput(
            f"{completions.label} does not say which prompts it answers, and this judge reads the prompt",
            hint="use a judge that reads the response alone (substring), or import the completions with their prompts",
        )
    if completions.planned:
        return Artifact(
            "prompts", identifier, completions.folder, {"recipe": {}, "about": {}, "files": {}}, planned=True
        )
    return bench.store.open("prompts", identifier)


def read_labels(artifact: Artifact) -> list[Label]:
    return [Label.from_json(row, LABELS_FILE) for row in formats.read_rows(artifact.path / LABELS_FILE)]


def outcomes_by_prompt(artifact: Artifact) -> dict[str, str]:
    """Outcome by prompt id."""
    return {label.prompt_id: label.outcome for label in read_labels(artifact)}
