"""`transfer`: every source and target language, baseline, native and transferred, as one artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from refusalctl.data import sets
from refusalctl.errors import EmptySelection
from refusalctl.settings import Settings
from refusalctl.stats.rates import flips
from refusalctl.steps.completions import write_completions
from refusalctl.steps.comprehension import measure_comprehension
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import check_judge_is_there, judge_completions, outcomes_by_prompt
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.controls import compare_controls, draw_control_directions
from refusalctl.steps.selection.scores import chosen_candidate, read_scores, select_direction
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.steps.subspace import build_subspace
from refusalctl.steps.verdicts import decide_cells, facts_of_targets, judged_outcomes, read_gates
from refusalctl.store import formats
from refusalctl.store.store import Artifact

TRANSFER_FILE = "transfer.json"


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


def select_all(bench: Workbench) -> Selections:
    """A direction for every source, and for every target its own as the positive control.

    A language in which nothing can be selected is a result of its own; the matrix goes on.
    """
    found, missing = {}, {}
    for lang in bench.settings.langs:
        try:
            found[lang] = select_direction(bench, lang)
        except EmptySelection as error:
            missing[lang] = str(error)
            bench.note(f"{lang}: no direction: {error}")
    return Selections(found, missing)


def ablation(bench: Workbench, selection: Artifact) -> InterventionSpec:
    """Ablation of the chosen direction, or of `rank` directions at its position and layer."""
    if bench.settings.verdict.rank == 1:
        return InterventionSpec("ablate", selection)
    lang = selection.about["lang"]
    basis = build_subspace(bench, selection, lang)
    return InterventionSpec("subspace", basis)


def cells(bench: Workbench, selections: Selections) -> list[Cell]:
    """Baselines once per target, then each direction in each target."""
    result: list[tuple[str | None, str, str, Artifact]] = []
    for target in bench.settings.targets:
        prompts = draw_prompts(bench, target, "harmful", "test")
        specs: list[tuple[str | None, str, InterventionSpec]] = [(None, "baseline", InterventionSpec())]
        for lang in dict.fromkeys((target, *bench.settings.sources)):
            if lang in selections.found:
                condition = "native" if lang == target else "transferred"
                specs.append((lang, condition, ablation(bench, selections.found[lang])))
        for source, condition, spec in specs:
            written = write_completions(bench, prompts, spec, bench.settings.answers.max_new_tokens)
            result.append((source, target, condition, written))
    # after all writing: a judge with weights takes the model's place in memory
    return [Cell(*written, judge_completions(bench, written[-1], bench.settings.answers.judge)) for written in result]


def induced(bench: Workbench, selections: Selections, targets: Iterable[str]) -> list[Cell]:
    """Each direction added to harmless test prompts, at its own layer and every dose; the first is the verdict's."""
    result = []
    for target in targets:
        prompts = draw_prompts(bench, target, "harmless", "test")
        for lang in dict.fromkeys((target, *bench.settings.sources)):
            if lang not in selections.found:
                continue
            for dose in bench.settings.verdict.doses:
                spec = InterventionSpec("add", selections.found[lang], coeff=dose)
                written = write_completions(bench, prompts, spec, bench.settings.answers.max_new_tokens)
                judged = judge_completions(bench, written, bench.settings.answers.judge)
                result.append(
                    Cell(lang, target, "induced", written, judged, dose, dose != bench.settings.verdict.doses[0])
                )
    return result


def evidence(bench: Workbench, matrix: list[Cell]) -> dict[str, Artifact]:
    """What the rule looks at beside labels: control directions per cell, and the comprehension gate per target."""
    found = {}
    for target in bench.settings.targets:
        gate = measure_comprehension(bench, target)
        found[f"comprehension:{target}"] = gate
    if bench.settings.controls.controls:
        for cell in matrix:
            if cell.source is not None:
                try:
                    found[f"controls:{cell.key}"] = compare_controls(bench, cell.source, cell.target)
                except EmptySelection as error:
                    bench.note(f"{cell.key}: no controls: {error}")
    return found


def control_cells(bench: Workbench, beside: dict[str, Artifact]) -> list[Cell]:
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
        prompts = draw_prompts(bench, target, "harmful", "test")
        drawn = draw_control_directions(bench, source)
        for family in VERDICT_FAMILIES:
            for draw in range(bench.settings.controls.control_completions):
                spec = InterventionSpec("ablate", drawn, family=family, draw=draw)
                answers = write_completions(bench, prompts, spec, bench.settings.answers.max_new_tokens)
                written.append((source, target, family, answers, draw))
    return [
        Cell(
            source, target, family, answers, judge_completions(bench, answers, bench.settings.answers.judge), draw=draw
        )
        for source, target, family, answers, draw in written
    ]


def harmless_baselines(bench: Workbench) -> dict[str, Artifact]:
    """Labels on harmless test prompts without intervention, per target: what the model refuses without need."""
    written = {}
    for target in bench.settings.targets:
        if not sets.usable(bench.settings.prompts.data, target, "harmless", "test"):
            bench.note(
                f"{target}: the set {bench.settings.prompts.data!r} has no harmless test prompts: no baseline on them"
            )
            continue
        prompts = draw_prompts(bench, target, "harmless", "test")
        written[target] = write_completions(bench, prompts, InterventionSpec(), bench.settings.answers.max_new_tokens)
    return {target: judge_completions(bench, each, bench.settings.answers.judge) for target, each in written.items()}


def _run(job: Job) -> dict[str, Any]:
    settings = Settings.from_json(job.params["settings"])
    judged = {name.partition(":")[2]: a for name, a in job.inputs.items() if name.startswith("labels:")}
    harmless = {name.partition(":")[2]: a for name, a in job.inputs.items() if name.startswith("harmless:")}
    verdicts = decide_cells(settings, job.params["cells"], judged, harmless, job.inputs)
    rows = []
    for cell in job.params["cells"]:
        dose = cell["coeff"] if cell.get("further") else None
        key = cell_key(cell["source"], cell["target"], cell["condition"], dose, cell.get("draw"))
        outcomes = outcomes_by_prompt(judged[key])
        row = {**cell, "n": len(outcomes), "counts": dict(sorted(Counter(outcomes.values()).items()))}
        row |= {"completions": job.inputs[f"completions:{key}"].id, "labels": judged[key].id}
        if cell["source"] is not None:
            before = (
                harmless[cell["target"]] if cell["condition"] == "induced" else judged[f"baseline>{cell['target']}"]
            )
            row["flips"] = asdict(flips(*map(judged_outcomes, (before, judged[key]))))
        if key in verdicts:
            row["verdict"] = verdicts[key]
        rows.append(row)
    counted = {target: Counter(outcomes_by_prompt(labels).values()) for target, labels in harmless.items()}
    value = {
        "settings": settings.to_json(),
        "model": job.params["model"],
        "cells": rows,
        "harmless": {
            target: {"labels": harmless[target].id, "n": counts.total(), "counts": dict(sorted(counts.items()))}
            for target, counts in counted.items()
        },
        "selections": _selections(job),
        "gates": read_gates(job.inputs),
        "targets": facts_of_targets(settings, judged, verdicts),
    }
    formats.write_json(job.out / TRANSFER_FILE, "transfer", value)
    return {"cells": len(rows)}


def _selections(job: Job) -> dict[str, Any]:
    result: dict[str, Any] = {
        lang: {"status": "none", "reason": reason} for lang, reason in job.params["missing"].items()
    }
    for name, artifact in job.inputs.items():
        kind, _, lang = name.partition(":")
        if kind == "selection":
            stable = read_scores(artifact)["stability"]
            result[lang] = {
                "status": "chosen",
                "artifact": artifact.id,
                **chosen_candidate(artifact),
                "stability": stable,
            }
    return dict(sorted(result.items()))


TRANSFER = Step("transfer", 7, "transfer", _run)


def measure_transfer(bench: Workbench) -> Artifact:
    """The matrix over sources x targets, every missing input computed first."""
    check_judge_is_there(bench, bench.settings.answers.judge, bench.settings.langs)
    selections = select_all(bench)
    matrix = cells(bench, selections)
    harmless = harmless_baselines(bench)
    beside = evidence(bench, matrix)
    matrix += control_cells(bench, beside)
    if bench.settings.verdict.induce:
        matrix += induced(bench, selections, harmless)
    inputs = {f"selection:{lang}": a for lang, a in selections.found.items()}
    for cell in matrix:
        inputs |= {f"completions:{cell.key}": cell.completions, f"labels:{cell.key}": cell.labels}
    inputs |= {f"harmless:{lang}": a for lang, a in harmless.items()} | beside
    params = {
        "settings": bench.settings.to_json(),
        "model": bench.model_key(),
        "cells": [c.as_json() for c in matrix],
        "missing": selections.missing,
    }
    n = matrix[0].completions.about["n"]
    about = {"model": bench.ref.name, "data": bench.settings.prompts.data, "sources": ",".join(bench.settings.sources)}
    about |= {"targets": ",".join(bench.settings.targets), "n": n}
    return bench.obtain(TRANSFER, params, inputs, about)


def read_transfer(artifact: Artifact) -> dict[str, Any]:
    return formats.read_json(artifact.path / TRANSFER_FILE, "transfer")
