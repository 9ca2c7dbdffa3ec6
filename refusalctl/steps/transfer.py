"""`transfer`: every source and target language, baseline, native and transferred, as one artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from refusalctl.data import sets
from refusalctl.errors import EmptySelection
from refusalctl.settings import Experiment
from refusalctl.stats.rates import flips
from refusalctl.steps import completions as completion_step
from refusalctl.steps import comprehension as comprehension_step
from refusalctl.steps import prompts as prompt_step
from refusalctl.steps import subspace as subspace_step
from refusalctl.steps import verdicts as verdict_step
from refusalctl.steps.completions import InterventionSpec
from refusalctl.steps.labelling import labels as label_step
from refusalctl.steps.selection import controls as control_step
from refusalctl.steps.selection import scores as score_step
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

FILE = "transfer.json"


@dataclass(frozen=True)
class Cell:
    """One target under one condition.

    On harmful prompts: `baseline`, `native` (source = target) or `transferred`, by ablation, and a family of control
    directions of the source (`shuffled`, `covariance`), one `draw` of it ablated; on harmless prompts `induced`, where
    `coeff` times the source's direction is added.
    """

    source: str | None
    target: str
    condition: str
    completions: Artifact
    labels: Artifact
    coeff: float | None = None
    further: bool = False  # a dose beside the one that the verdict is about
    draw: int | None = None  # which draw of a family of control directions

    @property
    def key(self) -> str:
        return cell_key(self.source, self.target, self.condition, self.coeff if self.further else None, self.draw)

    def as_json(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"source": self.source, "target": self.target, "condition": self.condition}
        if self.draw is not None:
            asked["draw"] = self.draw
        return asked if self.coeff is None else asked | {"coeff": self.coeff, "further": self.further}


def cell_key(
    source: str | None, target: str, condition: str, further: float | None = None, draw: int | None = None
) -> str:
    """`further`: coefficient of a dose beside the one that the verdict is about; `draw`: of a control family."""
    if draw is not None:
        return f"{condition}#{draw}:{source}>{target}"
    dose = "" if further is None else f"@{further:g}"
    return f"{f'induced{dose}:' if condition == 'induced' else ''}{source or 'baseline'}>{target}"


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


def ablation(bench: Workbench, experiment: Experiment, selection: Artifact) -> InterventionSpec:
    """Ablation of the chosen direction, or of `experiment.rank` directions at its position and layer."""
    if experiment.rank == 1:
        return InterventionSpec("ablate", selection)
    lang = selection.about["lang"]
    basis = subspace_step.subspace(bench, experiment, selection, lang, experiment.langs)
    return InterventionSpec("subspace", basis)


def cells(bench: Workbench, experiment: Experiment, selections: Selections) -> list[Cell]:
    """Baselines once per target, then each direction in each target."""
    result: list[tuple[str | None, str, str, Artifact]] = []
    for target in experiment.targets:
        prompts = prompt_step.prompts(bench, experiment, target, "harmful", "test", experiment.langs)
        specs: list[tuple[str | None, str, InterventionSpec]] = [(None, "baseline", InterventionSpec())]
        for lang in dict.fromkeys((target, *experiment.sources)):
            if lang in selections.found:
                condition = "native" if lang == target else "transferred"
                specs.append((lang, condition, ablation(bench, experiment, selections.found[lang])))
        for source, condition, spec in specs:
            written = completion_step.completions(bench, prompts, spec, experiment.max_new_tokens)
            result.append((source, target, condition, written))
    # after all writing: a judge with weights takes the model's place in memory
    return [Cell(*written, label_step.labels(bench, written[-1], experiment.judge)) for written in result]


def induced(bench: Workbench, experiment: Experiment, selections: Selections, targets: Iterable[str]) -> list[Cell]:
    """Each direction added to harmless test prompts, at its own layer and every dose; the first is the verdict's."""
    result = []
    for target in targets:
        prompts = prompt_step.prompts(bench, experiment, target, "harmless", "test", experiment.langs)
        for lang in dict.fromkeys((target, *experiment.sources)):
            if lang not in selections.found:
                continue
            for dose in experiment.doses:
                spec = InterventionSpec("add", selections.found[lang], coeff=dose)
                written = completion_step.completions(bench, prompts, spec, experiment.max_new_tokens)
                judged = label_step.labels(bench, written, experiment.judge)
                result.append(Cell(lang, target, "induced", written, judged, dose, dose != experiment.doses[0]))
    return result


def evidence(bench: Workbench, experiment: Experiment, matrix: list[Cell]) -> dict[str, Artifact]:
    """What the rule looks at beside labels: control directions per cell, and the comprehension gate per target."""
    found = {}
    for target in experiment.targets:
        gate = comprehension_step.comprehension(bench, experiment, target, experiment.langs)
        found[f"comprehension:{target}"] = gate
    if experiment.controls:
        for cell in matrix:
            if cell.source is not None:
                try:
                    found[f"controls:{cell.key}"] = control_step.controls(
                        bench, experiment, cell.source, cell.target, experiment.langs
                    )
                except EmptySelection as error:
                    bench.note(f"{cell.key}: no controls: {error}")
    return found


def control_cells(bench: Workbench, experiment: Experiment, beside: dict[str, Artifact]) -> list[Cell]:
    """Answers under a few control directions of every cell that has some, in the families that a verdict looks at.

    The first draws, taken before anything is known of their effect. Drops of the refusal score say how far a control
    moves the first tokens; these say what the model then writes.
    """
    from refusalctl.stats.controls import VERDICT_FAMILIES

    written = []
    for name in beside:
        role, _, key = name.partition(":")
        if role != "controls":
            continue
        source, _, target = key.partition(">")
        prompts = prompt_step.prompts(bench, experiment, target, "harmful", "test", experiment.langs)
        drawn = control_step.control_directions(bench, experiment, source, experiment.langs)
        for family in VERDICT_FAMILIES:
            for draw in range(experiment.control_completions):
                spec = InterventionSpec("ablate", drawn, family=family, draw=draw)
                answers = completion_step.completions(bench, prompts, spec, experiment.max_new_tokens)
                written.append((source, target, family, answers, draw))
    return [
        Cell(source, target, family, answers, label_step.labels(bench, answers, experiment.judge), draw=draw)
        for source, target, family, answers, draw in written
    ]


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
    judged = {name.partition(":")[2]: a for name, a in job.inputs.items() if name.startswith("labels:")}
    harmless = {name.partition(":")[2]: a for name, a in job.inputs.items() if name.startswith("harmless:")}
    verdicts = verdict_step.verdicts(job.params["experiment"], job.params["cells"], judged, harmless, job.inputs)
    rows = []
    for cell in job.params["cells"]:
        dose = cell["coeff"] if cell.get("further") else None
        key = cell_key(cell["source"], cell["target"], cell["condition"], dose, cell.get("draw"))
        outcomes = label_step.outcomes(judged[key])
        row = {**cell, "n": len(outcomes), "counts": dict(sorted(Counter(outcomes.values()).items()))}
        row |= {"completions": job.inputs[f"completions:{key}"].id, "labels": judged[key].id}
        if cell["source"] is not None:
            before = (
                harmless[cell["target"]] if cell["condition"] == "induced" else judged[f"baseline>{cell['target']}"]
            )
            row["flips"] = asdict(flips(*map(verdict_step.judged_outcomes, (before, judged[key]))))
        if key in verdicts:
            row["verdict"] = verdicts[key]
        rows.append(row)
    counted = {target: Counter(label_step.outcomes(labels).values()) for target, labels in harmless.items()}
    value = {
        "experiment": job.params["experiment"],
        "model": job.params["model"],
        "cells": rows,
        "harmless": {
            target: {"labels": harmless[target].id, "n": counts.total(), "counts": dict(sorted(counts.items()))}
            for target, counts in counted.items()
        },
        "selections": _selections(job),
        "gates": verdict_step.gates(job.inputs),
        "targets": verdict_step.targets(job.params["experiment"], judged, verdicts),
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


STEP = Step("transfer", 7, "transfer", _run)


def transfer(bench: Workbench, experiment: Experiment) -> Artifact:
    """The matrix over `experiment.sources` x `experiment.targets`, every missing input computed first."""
    label_step.ready(bench, experiment.judge, experiment.langs)
    selections = select_all(bench, experiment)
    matrix = cells(bench, experiment, selections)
    harmless = harmless_baselines(bench, experiment)
    beside = evidence(bench, experiment, matrix)
    matrix += control_cells(bench, experiment, beside)
    if experiment.induce:
        matrix += induced(bench, experiment, selections, harmless)
    inputs = {f"selection:{lang}": a for lang, a in selections.found.items()}
    for cell in matrix:
        inputs |= {f"completions:{cell.key}": cell.completions, f"labels:{cell.key}": cell.labels}
    inputs |= {f"harmless:{lang}": a for lang, a in harmless.items()} | beside
    params = {
        "experiment": experiment.as_json(),
        "model": bench.model_key(),
        "cells": [c.as_json() for c in matrix],
        "missing": selections.missing,
    }
    n = matrix[0].completions.about["n"]
    about = {"model": bench.ref.name, "data": experiment.data, "sources": ",".join(experiment.sources)}
    about |= {"targets": ",".join(experiment.targets), "n": n}
    return bench.obtain(STEP, params, inputs, about)


def read(artifact: Artifact) -> dict[str, Any]:
    return formats.read_json(artifact.path / FILE, "transfer")
