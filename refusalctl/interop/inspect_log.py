"""Answers and labels as a log of Inspect, which `inspect view` shows and `read_eval_log` reads.

A sample's score is the judge's outcome as it is, a word: what is a refusal here is neither right nor wrong, so that no
accuracy is made up; the log's metrics are counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusalctl.disk import whole
from refusalctl.errors import BadInput
from refusalctl.file_errors import explained
from refusalctl.interop.rows import Value, text_digest

SUFFIXES = (".eval", ".json")


@dataclass(frozen=True)
class Task:
    """What a log says of itself. `created`: ISO 8601 with offset; `judge` None: nobody labelled."""

    name: str
    model: str
    created: str
    judge: str | None
    max_tokens: int | None
    metadata: Mapping[str, Value]
    texts: bool
    made_by: str


@dataclass(frozen=True)
class Sample:
    """One prompt and its answer; texts, or `sha256:` and their digest."""

    id: str
    prompt: str
    answer: str
    truncated: bool | None
    n_tokens: int | None
    outcome: str | None
    reason: str | None
    metadata: Mapping[str, Value]


def write(path: Path, task: Task, samples: Sequence[Sample]) -> None:
    """Write one log. Raises `BadInput` where Inspect is not installed, or the file is not called as its logs are."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"an Inspect log is called *{' or *'.join(SUFFIXES)}, found {path.name}")
    try:
        from inspect_ai import log as ilog
        from inspect_ai.model import GenerateConfig
    except ImportError as error:
        raise BadInput("an Inspect log needs inspect-ai", hint="pip install 'refusalctl[inspect]'") from error
    ids = [each.id for each in samples]
    done = ilog.EvalLog(
        status="success",
        eval=ilog.EvalSpec(
            created=task.created,
            eval_id=text_digest(f"{task.metadata.get('artifact')}")[:22],
            run_id=text_digest(f"run {task.metadata.get('artifact')}")[:22],
            task_id=text_digest(task.name)[:22],
            task=task.name,
            dataset=ilog.EvalDataset(
                name=str(task.metadata.get("data") or "prompts"), samples=len(samples), sample_ids=ids
            ),
            model=task.model,
            model_generate_config=GenerateConfig(max_tokens=task.max_tokens),
            config=ilog.EvalConfig(),
            packages={"refusalctl": task.made_by.partition(" ")[2]},
            metadata={**task.metadata, "made_by": task.made_by, "texts": task.texts},
        ),
        results=_results(task, samples),
        stats=ilog.EvalStats(started_at=task.created, completed_at=task.created),
        samples=[_sample(task, each) for each in samples],
    )
    with explained("write", path), whole(path, path.with_name(f".{path.stem}.draft{path.suffix}")) as draft:
        ilog.write_eval_log(done, str(draft))


def _sample(task: Task, each: Sample) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput, ModelUsage
    from inspect_ai.scorer import Score

    reason: Any = "unknown" if each.truncated is None else "max_tokens" if each.truncated else "stop"
    output = ModelOutput.from_content(task.model, each.answer, reason)
    if each.n_tokens is not None:
        output.usage = ModelUsage(output_tokens=each.n_tokens)
    score = None if each.outcome is None or task.judge is None else Score(value=each.outcome, explanation=each.reason)
    # ids of messages are random by default: the same artifact should give the same log
    asked = ChatMessageUser(content=each.prompt, id=f"{each.id}-prompt")
    told = ChatMessageAssistant(content=each.answer, id=f"{each.id}-answer", source="generate", model=task.model)
    output.choices[0].message = told
    return EvalSample(
        id=each.id,
        epoch=1,
        input=each.prompt,
        target="",
        messages=[asked, told],
        output=output,
        scores=None if score is None else {str(task.judge): score},
        metadata=dict(each.metadata),
        uuid=text_digest(f"{task.metadata.get('artifact')} {each.id}")[:22],
    )


def _results(task: Task, samples: Sequence[Sample]) -> Any:
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore

    counted = Counter(each.outcome for each in samples if each.outcome is not None)
    metrics = {name: EvalMetric(name=name, value=n) for name, n in sorted(counted.items())}
    scores = [] if task.judge is None else [EvalScore(name=task.judge, scorer=task.judge, metrics=metrics)]
    return EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=scores)
