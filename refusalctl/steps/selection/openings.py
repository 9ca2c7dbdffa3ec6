"""Refusal openings of one model and language: derived on train prompts or given, and checked on validation prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from refusalctl.errors import BadInput, EmptySelection
from refusalctl.records.openings import Openings, OpeningValidation
from refusalctl.records.rows import Completion
from refusalctl.setting_values import for_language
from refusalctl.settings import STYLE_JUDGE
from refusalctl.steps.asking import encode
from refusalctl.steps.completions import read_completions, write_completions
from refusalctl.steps.directions import KINDS
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import judge_completions, outcomes_by_prompt
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    from refusalctl.model.chat_model import ChatModel
    from refusalctl.stats.openings import DerivedOpenings

MAX_NEW_TOKENS = 32  # enough to recognise an opening; the answer itself is not needed


def given_for(openings: Sequence[str] | None, lang: str) -> list[str]:
    """Those of `TEXT`, `ids:40,2121`, `LANG=TEXT` or `LANG=ids:...` that are meant for a language.

    Where some name the language, only those; the unnamed ones are for all other languages.
    """
    named, rest = [], []
    for opening in openings or ():
        said = for_language(opening)
        if said is None:
            rest.append(opening)
        elif said[0] == lang:
            named.append(said[1])
    return named or rest


def sequences_of(model: ChatModel, given: Sequence[str]) -> list[list[int]]:
    """Token ids of given openings, each read where an answer begins (behind a closed, empty thought where the model
    thinks); `ids:40,2121` are two one-token openings.

    None begins another: the longer of such a pair is left out, its probability is part of the shorter one's.
    Raises `BadInput` for ids that the model does not have.
    """
    prompt = model.chat.scored("x")
    before = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    found: list[list[int]] = []
    for opening in given:
        if opening.startswith("ids:"):
            found += [[i] for i in _ids(opening, model)]
            continue
        ids = model.tokenizer(prompt + opening, add_special_tokens=False)["input_ids"]
        if ids[: len(before)] != before or len(ids) == len(before):
            raise BadInput(
                f"the opening {opening!r} cannot be told from the prompt's end in tokens", hint="give it as ids:..."
            )
        found.append(ids[len(before) :])
    kept = [o for o in found if not any(p != o and o[: len(p)] == p for p in found)]
    return [list(o) for o in dict.fromkeys(map(tuple, kept))]


def _ids(opening: str, model: ChatModel) -> list[int]:
    parts = opening.removeprefix("ids:").split(",")
    if not all(p.strip().isdecimal() for p in parts):
        raise BadInput(f"{opening!r} is not a list of token ids", hint="the form is ids:40,2121")
    size = len(model.tokenizer)
    unknown = [p for p in parts if int(p) >= size]
    if unknown:
        raise BadInput(
            f"token id {unknown[0].strip()} is not in the model's vocabulary of {size}",
            hint="published ids belong to one tokenizer",
        )
    return [int(p) for p in parts]


def _run(job: Job) -> RunChecks:
    if job.params["given"]:
        sequences = tuple(tuple(s) for s in sequences_of(job.bench.model, job.params["given"]))
        found = Openings(sequences, "given", _validate(job, sequences))
    else:
        derived = _derive(job)
        found = Openings(
            derived.sequences,
            "derived",
            _validate(job, derived.sequences),
            derived.counts,
            derived.n_refusals,
            derived.n_others,
            derived.coverage,
            derived.false_share,
        )
    formats.write_record(job.out, found)
    area = found.validation.auroc
    return {
        "coverage": found.coverage,
        "n_openings": len(found.sequences),
        "validation_auroc": area.value if area else None,
    }


def _derive(job: Job) -> DerivedOpenings:
    from refusalctl.stats.openings import derive

    refusals, others, unfinished, n = [], [], 0, 0
    for kind in KINDS:
        outcome = outcomes_by_prompt(job.inputs[f"labels_{kind}"])
        for row in read_completions(job.inputs[f"completions_{kind}"]):
            unfinished, n = unfinished + row.unfinished, n + 1
            if row.unfinished:
                continue
            if outcome[row.prompt_id] == "refusal":
                refusals.append(row.token_ids)
            elif outcome[row.prompt_id] != "unparsed" and row.token_ids:
                others.append(row.token_ids)
    try:
        return derive(refusals, others)
    except EmptySelection as error:
        if not unfinished:
            raise
        raise EmptySelection(
            f"{error.message}; {unfinished} of {n} train answers were not reached: thoughts before them did not end",
            hint="give thoughts more tokens (--max-think-tokens), or --thinking off",
        ) from error


def _validate(job: Job, sequences: Sequence[Sequence[int]]) -> OpeningValidation:
    """The refusal score of every validation prompt against judged answers to it."""
    from refusalctl.model.forward import opening_logprob
    from refusalctl.model.hooks import Intervention
    from refusalctl.stats.opening_check import validate
    from refusalctl.stats.refusal import refusal_score

    prompts, answers = [], []
    for kind in KINDS:
        rows = {row.prompt_id: row for row in read_completions(job.inputs[f"val_completions_{kind}"])}
        for prompt in read_prompts(job.inputs[f"val_{kind}"]):
            prompts.append(prompt)
            answers.append(rows[prompt.id])
    model, size = job.bench.model, job.bench.machine.batch_size
    ids = [list(each) for each in sequences]
    encoded = encode(job, prompts, max(map(len, ids), default=1) - 1, scored=True)
    scores = refusal_score(opening_logprob(model, encoded, ids, Intervention(), size)).numpy()
    judge, style = job.params["opening_judge"], None
    try:
        if judge == STYLE_JUDGE:
            judged, style = _by_style(job, [p.text for p in prompts], answers)
        else:
            judged = _by_labels(job)
    except EmptySelection as error:  # a finding to keep beside the openings; `checked_openings` raises it
        return OpeningValidation(judge, 0, 0, len(answers), 0, 0, reason=str(error))
    return replace(validate(judge, scores, judged, [a.token_ids for a in answers], ids), style_auroc=style)


def _by_style(job: Job, questions: list[str], answers: list[Completion]) -> tuple[list[bool | None], float]:
    from refusalctl.stats.opening_check import judge_by_style, without_question

    train: dict[str, list[str]] = {}
    for kind in KINDS:
        asked = {p.id: p.text for p in read_prompts(job.inputs[f"train_{kind}"])}
        written = read_completions(job.inputs[f"completions_{kind}"])
        train[kind] = [without_question(row.text, asked[row.prompt_id]) for row in written if not row.unfinished]
    checked = [without_question(a.text, q) for a, q in zip(answers, questions, strict=True)]
    style = judge_by_style(train["harmful"], train["harmless"], checked)
    return [None if a.unfinished else r for a, r in zip(answers, style.refusal, strict=True)], style.auroc


def _by_labels(job: Job) -> list[bool | None]:
    judged: list[bool | None] = []
    for kind in KINDS:
        outcome = outcomes_by_prompt(job.inputs[f"val_labels_{kind}"])
        for prompt in read_prompts(job.inputs[f"val_{kind}"]):
            said = outcome[prompt.id]
            judged.append(said == "refusal" if said in ("refusal", "compliance") else None)
    return judged


OPENINGS = Step("openings", 5, "openings", _run, uses_model=True)


def derive_openings(bench: Workbench, lang: str) -> Artifact:
    """Openings with their validation; `checked` says whether they may be used.

    Raises `EmptySelection` when the model refuses too little in this language to tell how it refuses, `BadInput` for
    an opening judge that is the judge whose labels derived the openings.
    """
    given = given_for(bench.settings.selection.refusal_openings, lang)
    judge = bench.settings.selection.opening_judge
    if judge == bench.settings.answers.judge and not given:
        raise BadInput(
            f"the judge {judge!r} derived the openings and cannot check them too",
            hint=f"--opening-judge {STYLE_JUDGE}, or another judge; see `refusalctl judge --list`",
        )
    inputs = {}
    for kind in KINDS:
        train = draw_prompts(bench, lang, kind, "train")
        val = draw_prompts(bench, lang, kind, "val")
        inputs[f"train_{kind}"], inputs[f"val_{kind}"] = train, val
        written = write_completions(bench, train, InterventionSpec(), MAX_NEW_TOKENS)
        checked = write_completions(bench, val, InterventionSpec(), MAX_NEW_TOKENS)
        inputs[f"completions_{kind}"], inputs[f"val_completions_{kind}"] = written, checked
    for kind in KINDS:  # after all writing: a judge with weights takes the model's place in memory
        if not given:
            inputs[f"labels_{kind}"] = judge_completions(
                bench, inputs[f"completions_{kind}"], bench.settings.answers.judge
            )
        if judge != STYLE_JUDGE:
            inputs[f"val_labels_{kind}"] = judge_completions(bench, inputs[f"val_completions_{kind}"], judge)
    about = {
        "model": bench.ref.name,
        "lang": lang,
        "data": bench.settings.prompts.data,
        "judge": bench.settings.answers.judge,
    }
    about["origin"] = "given" if given else "derived"
    return bench.obtain(OPENINGS, {"given": given, "opening_judge": judge}, inputs, about)


def checked_openings(bench: Workbench, lang: str) -> Artifact:
    """Openings that passed their validation.

    Raises `EmptySelection` with too few refusals to tell, and below `min_opening_auroc`: `UnfitOpenings` where they
    were given.
    """
    from refusalctl.stats.opening_check import check

    found = derive_openings(bench, lang)
    if not found.planned:
        value = read_openings(found)
        check(value.validation, bench.settings.selection.min_opening_auroc, lang, value.origin)
    return found


def read_openings(artifact: Artifact) -> Openings:
    return formats.read_record(artifact.path, Openings)
