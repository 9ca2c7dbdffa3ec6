"""Published labels: beside their answers in a run, and alone, where prompts are known by their position."""

from __future__ import annotations

from refusalctl.data.published_labels import ConditionLabels
from refusalctl.data.published_runs import CUT_AT, PublishedLabel, differing
from refusalctl.json_types import JsonObject
from refusalctl.model.judges.protocol import NO_REFUSAL_LABEL, Verdict
from refusalctl.records.rows import Completion, Kind, Label, Outcome
from refusalctl.steps.labelling.labels import LABELS_FILE, label_of
from refusalctl.steps.published.request import Request, rows_step
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Artifact

HARM_JUDGES = ("llamaguard2", "harmbench")  # they rate harm and give no refusal label


def label_of_answer(row: Completion, published: PublishedLabel, judge: str) -> Label:
    """A published label with the attributes of its answer."""
    cut = len(row.text) == CUT_AT
    if judge in HARM_JUDGES:
        verdict = Verdict("unparsed", published.reason or NO_REFUSAL_LABEL, published.harmful, None, cut)
    else:
        verdict = Verdict(_outcome(published), published.reason, published.harmful, None, cut)
    return label_of(row, verdict, f"imported:{judge}")


def _outcome(published: PublishedLabel) -> Outcome:
    return "unparsed" if published.refusal is None else "refusal" if published.refusal else "compliance"


def import_labels(
    bench: Workbench, file: str, sha256: str, model: str, labels: ConditionLabels, request: Request
) -> list[Artifact]:
    """Labels alone, one artifact per judge: prompts are known by their position, the same in every language and
    condition."""
    kind: Kind = request.kind or "harmful"
    model = model if request.model == "imported" else request.model
    shared = {"model": model, "lang": labels.lang, "kind": kind, "source": request.source}
    params = {"file": file, "sha256": sha256, "condition": labels.condition, **shared}
    about: JsonObject = {"data": "imported", "split": "test", "n": labels.n, "provenance": "imported", **shared}
    about |= request.about(labels.condition)
    artifacts = []
    for name, published in labels.said.items():
        judge = f"imported:{name}"
        rows = [
            Label(f"{kind}-test-{i:03d}", _outcome(each), judge, each.reason, None, harmful=each.harmful)
            for i, each in enumerate(published)
        ]
        step = rows_step("labels", rows, LABELS_FILE)
        artifacts.append(bench.obtain(step, params | {"judge": judge}, {}, about | {"judge": judge}))
    for note in differing(labels.reported, labels.said):
        bench.note(f"{file}, {labels.lang} {labels.condition}: {note}")
    return artifacts
