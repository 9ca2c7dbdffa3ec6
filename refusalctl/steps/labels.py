"""`judge`: completions to labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

from refusalctl.data.records import Label
from refusalctl.errors import BadInput
from refusalctl.steps import completions as completion_step
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

FILE = "labels.jsonl"


def _run(job: Job) -> dict[str, Any]:
    from refusalctl.model.judges import judge_named

    judge = judge_named(job.params["judge"])
    labels = []
    for row in completion_step.read(job.inputs["completions"]):
        verdict = judge.judge(row.text, row.lang)
        labels.append(
            Label(row.prompt_id, verdict.outcome, judge.name, verdict.reason, row.truncated, row.cluster)  # type: ignore[arg-type]
        )
    formats.write_rows(job.out / FILE, (label.to_json() for label in labels))
    return dict(Counter(label.outcome for label in labels))


STEP = Step("judge", 1, "labels", _run)


def labels(bench: Workbench, completions: Artifact, judge: str) -> Artifact:
    """One label per completion. Raises `BadInput` for an unknown judge or a language that it cannot judge."""
    from refusalctl.model.judges import judge_named

    asked = judge_named(judge)
    if completions.about["lang"] not in asked.languages():
        raise BadInput(
            f"the judge {judge!r} does not know the language {completions.about['lang']!r}",
            hint=f"it knows {', '.join(asked.languages())}",
        )
    params = {"judge": judge, "judge_digest": asked.digest}
    return bench.obtain(STEP, params, {"completions": completions}, {**completions.about, "judge": judge})


def read(artifact: Artifact) -> list[Label]:
    return [Label.from_json(row, FILE) for row in formats.read_rows(artifact.path / FILE)]


def outcomes(artifact: Artifact) -> dict[str, str]:
    """Outcome by prompt id."""
    return {label.prompt_id: label.outcome for label in read(artifact)}
