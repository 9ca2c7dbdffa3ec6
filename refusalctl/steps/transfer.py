"""`transfer`: every source and target language, baseline, native and transferred, as one artifact."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from refusalctl.data import sets
from refusalctl.errors import EmptySelection
from refusalctl.stats.rates import flips
from refusalctl.steps import completions as completion_step
from refusalctl.steps import labels as label_step
from refusalctl.steps import prompts as prompt_step
from refusalctl.steps import scores as score_step
from refusalctl.steps.completions import InterventionSpec
from refusalctl.steps.experiment import Experiment
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

FILE = "transfer.json"


@dataclass(frozen=True)
class Cell:
    """One target under one condition: `baseline`, `native` (source = target) or `transferred`."""

    source: str | None
    target: str
    condition: str
    completions: Artifact
    labels: Artifact

    @property
    def key(self) -> str:
        return f"{self.source or 'baseline'}>{self.target}"


@dataclass(frozen=True)
class Selections:
    """Chosen direction per language, and why a language has none."""

    found: dict[str, Artifact]
    missing: dict[str, str]


def select_all(bench: Workbench, experiment: Experiment) -> Selections:
    """A direction for every source, and for every target its own as the positive control.

    A language in which nothing can be selected is a result of its own; the matrix goes on.
    """
    found, missing = {}, {}
    for lang in experiment.langs:
        try:
            found[lang] = score_step.selection(bench, experiment, lang, experiment.langs)
        except EmptySelection as error:
            missing[lang] = str(error)
            bench.note(f"{lang}: no direction: {error}")
    return Selections(found, missing)


def cells(bench: Workbench, experiment: Experiment, selections: Selections) -> list[Cell]:
    """Baselines once per target, then each direction in each target."""
    result: list[tuple[str | None, str, str, Artifact]] = []
    for target in experiment.targets:
        prompts = prompt_step.prompts(bench, experiment, target, "harmful", "test", experiment.langs)
        specs: list[tuple[str | None, str, InterventionSpec]] = [(None, "baseline", InterventionSpec())]
        for lang in dict.fromkeys((target, *experiment.sources)):
            if lang in selections.found:
                condition = "native" if lang == target else "transferred"
                specs.append((lang, condition, InterventionSpec("ablate", selections.found[lang])))
        for source, condition, spec in specs:
            written = completion_step.completions(bench, prompts, spec, experiment.max_new_tokens)
            result.append((source, target, condition, written))
    # after all writing: a judge with weights takes the model's place in memory
    return [Cell(*written, label_step.labels(bench, written[-1], experiment.judge)) for written in result]


def harmless_baselines(bench: Workbench, experiment: Experiment) -> dict[str, Artifact]:
    """Labels on harmless test prompts without intervention, per target: what the model refuses without need."""
    written = {}
    for target in experiment.targets:
        if not sets.usable(experiment.data, target, "harmless", "test"):
            bench.note(f"{target}: the set {experiment.data!r} has no harmless test prompts: no baseline on them")
            continue
        prompts = prompt_step.prompts(bench, experiment, target, "harmless", "test", experiment.langs)
        written[target] = completion_step.completions(bench, prompts, InterventionSpec(), experiment.max_new_tokens)
    return {target: label_step.labels(bench, each, experiment.judge) for target, each in written.items()}


def _run(job: Job) -> dict[str, Any]:
    baselines = {
        c["target"]: label_step.outcomes(job.inputs[f"labels:baseline>{c['target']}"])
        for c in job.params["cells"]
        if c["source"] is None
    }
    rows = []
    for cell in job.params["cells"]:
        key = f"{cell['source'] or 'baseline'}>{cell['target']}"
        outcomes = label_step.outcomes(job.inputs[f"labels:{key}"])
        row = {**cell, "n": len(outcomes), "counts": dict(sorted(Counter(outcomes.values()).items()))}
        row |= {"completions": job.inputs[f"completions:{key}"].id, "labels": job.inputs[f"labels:{key}"].id}
        if cell["source"] is not None:
            row["flips"] = asdict(flips(baselines[cell["target"]], outcomes))
        rows.append(row)
    harmless = {}
    for name, labels in job.inputs.items():
        role, _, target = name.partition(":")
        if role != "harmless":
            continue
        counts = Counter(label_step.outcomes(labels).values())
        harmless[target] = {"labels": labels.id, "n": counts.total(), "counts": dict(sorted(counts.items()))}
    value = {
        "experiment": job.params["experiment"],
        "model": job.params["model"],
        "cells": rows,
        "harmless": harmless,
        "selections": _selections(job),
    }
    formats.write_json(job.out / FILE, "transfer", value)
    return {"cells": len(rows)}


def _selections(job: Job) -> dict[str, Any]:
    result: dict[str, Any] = {
        lang: {"status": "none", "reason": reason} for lang, reason in job.params["missing"].items()
    }
    for name, artifact in job.inputs.items():
        kind, _, lang = name.partition(":")
        if kind == "selection":
            stable = score_step.read_scores(artifact)["stability"]
            result[lang] = {
                "status": "chosen",
                "artifact": artifact.id,
                **score_step.chosen(artifact),
                "stability": stable,
            }
    return dict(sorted(result.items()))


STEP = Step("transfer", 1, "transfer", _run)


def transfer(bench: Workbench, experiment: Experiment) -> Artifact:
    """The matrix over `experiment.sources` x `experiment.targets`, every missing input computed first."""
    label_step.ready(bench, experiment.judge, experiment.langs)
    selections = select_all(bench, experiment)
    matrix = cells(bench, experiment, selections)
    harmless = harmless_baselines(bench, experiment)
    inputs = {f"selection:{lang}": a for lang, a in selections.found.items()}
    for cell in matrix:
        inputs |= {f"completions:{cell.key}": cell.completions, f"labels:{cell.key}": cell.labels}
    inputs |= {f"harmless:{lang}": a for lang, a in harmless.items()}
    params = {
        "experiment": experiment.as_json(),
        "model": bench.model_key(),
        "cells": [{"source": c.source, "target": c.target, "condition": c.condition} for c in matrix],
        "missing": selections.missing,
    }
    n = matrix[0].completions.about["n"]
    about = {"model": bench.ref.name, "data": experiment.data, "sources": ",".join(experiment.sources)}
    about |= {"targets": ",".join(experiment.targets), "n": n}
    return bench.obtain(STEP, params, inputs, about)


def read(artifact: Artifact) -> dict[str, Any]:
    return formats.read_json(artifact.path / FILE, "transfer")
