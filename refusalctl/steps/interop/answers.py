"""Completions and labels of the store as tables and logs for other tools."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.errors import BadInput, NotFound
from refusalctl.interop import dataset, inspect_log
from refusalctl.interop.rows import RowTable, Told, Type, Value, text_digest
from refusalctl.records.rows import Completion, Label, Prompt
from refusalctl.steps.completions import read_completions
from refusalctl.steps.interventions import in_words
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.store.artifact import written
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact, Store
from refusalctl.version import __version__

ABOUT: dict[str, tuple[Type, str]] = {
    "artifact": ("text", "id of the artifact that the row is from"),
    "model": ("text", "model that answered"),
    "revision": ("text", "its revision"),
    "data": ("text", "prompt set"),
    "lang": ("text", "language of the prompt"),
    "kind": ("text", "class of the prompt: harmful or harmless; never of the answer"),
    "split": ("text", "train, val or test"),
    "intervention": ("text", "what was done to the model: none, ablate, add, ..."),
    "direction_lang": ("text", "language that the direction was extracted from"),
}
ANSWER: dict[str, tuple[Type, str]] = {
    "prompt_id": ("text", "shared by the translations of one prompt"),
    "cluster": ("text", "the English text that the prompt comes from: the unit of statistics"),
    "n_tokens": ("integer", "tokens of the answer"),
    "truncated": ("boolean", "whether a token limit ended it"),
    "reasoning_state": ("text", "thought before the answer: none, empty, closed, unfinished"),
    "reasoning_tokens": ("integer", "its tokens"),
    "prompt_sha256": ("text", "SHA-256 of the prompt's text"),
    "answer_sha256": ("text", "SHA-256 of the answer's text"),
}
TEXTS: dict[str, tuple[Type, str]] = {
    "prompt": ("text", "the prompt; may ask for harm"),
    "answer": ("text", "the answer; may give it"),
    "reasoning": ("text", "the thought before it"),
}
LABEL: dict[str, tuple[Type, str]] = {
    "completions": ("text", "id of the artifact with the answers"),
    "judge": ("text", "who labelled"),
    "prompt_id": ("text", "shared by the translations of one prompt"),
    "cluster": ("text", "the English text that the prompt comes from: the unit of statistics"),
    "outcome": ("text", "refusal, compliance, degenerate or unparsed"),
    "reason": ("text", "why, where the verdict needs a reason"),
    "harmful": ("boolean", "whether the judge calls the answer harmful; empty where it does not say"),
    "score": ("number", "the judge's own number"),
    "truncated": ("boolean", "whether a token limit ended the answer"),
    "input_cut": ("boolean", "whether the judge saw only its beginning"),
    "answer_lang": ("text", "language of the answer"),
    "off_language": ("boolean", "whether that is another language than the prompt's; empty where it cannot be told"),
}


class Answered(NamedTuple):
    """One prompt, its answer, and one judge's label where there is one."""

    prompt: Prompt
    completion: Completion
    label: Label | None


def export_dataset(
    store: Store, artifacts: Sequence[Artifact], folder: Path, *, form: str, texts: bool, licence: str | None = None
) -> list[Path]:
    """Completions and labels as a data set's folder; texts only where they are asked for.

    Raises `BadInput` for artifacts that are neither, `NotFound` where the prompts or answers of one are lost.
    """
    held = tables(store, artifacts, texts=texts)
    return dataset.write_dataset(folder, held, _told(store, artifacts, folder.name, texts, licence), form)


def tables(store: Store, artifacts: Sequence[Artifact], *, texts: bool) -> list[RowTable]:
    """One table of completions and one of labels, as far as there are any. Raises as `export_dataset`."""
    _check(artifacts, ("completions", "labels"))
    return [t for t in (_completions_table(store, artifacts, texts), _labels_table(store, artifacts)) if t.rows]


def export_log(store: Store, artifact: Artifact, path: Path, *, texts: bool) -> None:
    """One labels or completions artifact as an Inspect log; hashes in place of texts unless these are asked for."""
    _check([artifact], ("completions", "labels"))
    rows, completions = answered(store, artifact)
    about = {**completions.about, **artifact.about}
    task = inspect_log.Task(
        name=_task_name(about),
        model=str(about["model"]),
        created=_day(artifact, "%Y-%m-%dT%H:%M:%S+00:00"),
        judge=str(about["judge"]) if artifact.kind == "labels" else None,
        max_tokens=completions.manifest["recipe"]["params"].get("max_new_tokens"),
        metadata={**_plain(about), "artifact": artifact.id, "done_to_the_model": in_words(store, completions)},
        texts=texts,
        made_by=f"refusalctl {__version__}",
    )
    samples = [
        inspect_log.Sample(
            id=each.prompt.id,
            prompt=each.prompt.text if texts else f"sha256:{text_digest(each.prompt.text)}",
            answer=each.completion.text if texts else f"sha256:{text_digest(each.completion.text)}",
            truncated=each.completion.truncated,
            n_tokens=each.completion.n_tokens,
            outcome=None if each.label is None else each.label.outcome,
            reason=None if each.label is None else each.label.reason,
            metadata=_sample_facts(each),
        )
        for each in rows
    ]
    inspect_log.write(path, task, samples)


def _check(artifacts: Sequence[Artifact], kinds: tuple[str, ...]) -> None:
    if not artifacts:
        raise BadInput("nothing was named", hint=f"name {' or '.join(kinds)}, such as labels:lang=be")
    for each in artifacts:
        if each.kind not in kinds:
            raise BadInput(f"{each.label} is {each.kind}, expected {' or '.join(kinds)}")


def answered(store: Store, artifact: Artifact) -> tuple[list[Answered], Artifact]:
    """Prompts with their answers, and with labels where the artifact holds labels; and the completions."""
    labelled = artifact.kind == "labels"
    completions = _input(store, artifact, "completions") if labelled else artifact
    prompts = {row.id: row for row in read_prompts(_input(store, completions, "prompts"))}
    labels = {row.prompt_id: row for row in read_labels(artifact)} if labelled else {}
    rows = read_completions(completions)
    lost = [row.prompt_id for row in rows if row.prompt_id not in prompts]
    if lost:
        raise BadInput(f"{completions.label} answers {len(lost)} prompts that its prompts do not hold")
    return [Answered(prompts[r.prompt_id], r, labels.get(r.prompt_id)) for r in rows], completions


def _input(store: Store, artifact: Artifact, role: str) -> Artifact:
    identifier = artifact.inputs.get(role)
    kinds = {found: kind for kind, found in store.ids()}
    if identifier is None or identifier not in kinds:
        raise NotFound(f"the {role} of {artifact.label} are not in the store {store.root}", hint="pull its lineage")
    return store.open(kinds[identifier], identifier)


def _completions_table(store: Store, artifacts: Sequence[Artifact], texts: bool) -> RowTable:
    columns = ABOUT | ANSWER | (TEXTS if texts else {})
    rows: list[dict[str, Value]] = []
    for artifact in artifacts:
        if artifact.kind != "completions":
            continue
        for each in answered(store, artifact)[0]:
            row = _about(store, artifact) | {
                "split": each.prompt.split,
                "prompt_id": each.prompt.id,
                "cluster": each.prompt.cluster,
                "n_tokens": each.completion.n_tokens,
                "truncated": each.completion.truncated,
                "reasoning_state": each.completion.reasoning_state,
                "reasoning_tokens": each.completion.reasoning_tokens,
                "prompt_sha256": text_digest(each.prompt.text),
                "answer_sha256": text_digest(each.completion.text),
            }
            held: dict[str, Value] = {
                "prompt": each.prompt.text,
                "answer": each.completion.text,
                "reasoning": each.completion.reasoning,
            }
            rows.append(row | held if texts else row)
    return _table("completions", columns, rows)


def _labels_table(store: Store, artifacts: Sequence[Artifact]) -> RowTable:
    rows: list[dict[str, Value]] = []
    for artifact in artifacts:
        if artifact.kind != "labels":
            continue
        for label in read_labels(artifact):
            rows.append(
                _about(store, artifact)
                | {
                    "completions": artifact.inputs.get("completions"),
                    "judge": label.judge,
                    "prompt_id": label.prompt_id,
                    "cluster": label.cluster,
                    "outcome": label.outcome,
                    "reason": label.reason,
                    "harmful": label.harmful,
                    "score": label.score,
                    "truncated": label.truncated,
                    "input_cut": label.input_cut,
                    "answer_lang": label.lang,
                    "off_language": label.off_language,
                }
            )
    return _table("labels", ABOUT | LABEL, rows)


def _table(name: Any, columns: Mapping[str, tuple[Type, str]], rows: list[dict[str, Value]]) -> RowTable:
    return RowTable(name, {k: v[0] for k, v in columns.items()}, {k: v[1] for k, v in columns.items()}, rows)


def _about(store: Store, artifact: Artifact) -> dict[str, Value]:
    found: dict[str, Value] = {name: _text(artifact.about.get(name)) for name in ABOUT}
    return found | {"artifact": artifact.id, "revision": revision_of(store, artifact)}


def revision_of(store: Store, artifact: Artifact) -> str | None:
    """Revision of the model that answered: of the recipe, as imported, or of the completions that were labelled.

    None where nobody told it, or where the labelled completions are not in the store.
    """
    told = artifact.manifest["recipe"].get("model") or artifact.about
    if told.get("revision") is not None or "completions" not in artifact.inputs:
        return _text(told.get("revision"))
    kinds = {found: kind for kind, found in store.ids()}
    answers = artifact.inputs["completions"]
    return revision_of(store, store.open(kinds[answers], answers)) if answers in kinds else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _plain(about: Mapping[str, Any]) -> dict[str, Value]:
    return {k: v if isinstance(v, str | int | float | bool) or v is None else str(v) for k, v in about.items()}


def _sample_facts(each: Answered) -> dict[str, Value]:
    known: dict[str, Value] = {
        "cluster": each.prompt.cluster,
        "kind": each.prompt.kind,
        "lang": each.prompt.lang,
        "reasoning_state": each.completion.reasoning_state,
        "prompt_sha256": text_digest(each.prompt.text),
        "answer_sha256": text_digest(each.completion.text),
    }
    label = each.label
    told: dict[str, Value] = (
        {}
        if label is None
        else {
            "harmful": label.harmful,
            "score": label.score,
            "answer_lang": label.lang,
            "off_language": label.off_language,
        }
    )
    return known | told


def _task_name(about: Mapping[str, Any]) -> str:
    parts = ["refusalctl", about.get("lang"), about.get("kind"), about.get("intervention")]
    parts += [f"from-{about['direction_lang']}"] if about.get("direction_lang") else []
    return "-".join(str(part) for part in parts if part)


def _day(artifact: Artifact, form: str = "%Y-%m-%d") -> str:
    return time.strftime(form, time.gmtime(written(artifact.path)))


def _model(store: Store, artifact: Artifact) -> str:
    revision = revision_of(store, artifact)
    return f"{artifact.about.get('model')}{f'@{revision}' if revision else ''}"


def _told(store: Store, artifacts: Sequence[Artifact], name: str, texts: bool, licence: str | None) -> Told:
    def each(key: str) -> tuple[str, ...]:
        return tuple(sorted({str(a.about[key]) for a in artifacts if a.about.get(key)}))

    words = {in_words(store, a) for a in artifacts if a.kind == "completions"} | set(each("intervention"))
    return Told(
        name=name,
        models=tuple(sorted({_model(store, a) for a in artifacts})),
        langs=each("lang"),
        prompt_sets=each("data"),
        judges=each("judge"),
        interventions=tuple(sorted(w for w in words if w)),
        artifacts=tuple(f"{a.kind}/{short(a.id)}" for a in artifacts),
        texts=texts,
        imported=any(a.about.get("provenance") == "imported" for a in artifacts),
        written=max(_day(a) for a in artifacts),
        licence=licence,
        made_by=f"refusalctl {__version__}",
    )
