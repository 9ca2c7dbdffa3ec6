"""`transfer`: every source and target language, baseline, native and transferred, as one artifact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from refusalctl.data import sets
from refusalctl.errors import BadInput, EmptySelection
from refusalctl.json_types import JsonObject
from refusalctl.records.cell import Cell, Condition, LanguagePair
from refusalctl.records.rows import Kind
from refusalctl.records.transfer import ChosenDirection, RuleLimits, Transfer
from refusalctl.settings import LEAST_CONTROLS, Settings
from refusalctl.stats.moved import clears, may_be_nothing, possibly_removed, surely_removed
from refusalctl.stats.rates import fewest_flips, flips
from refusalctl.stats.verdict import INDUCTION, MAX_UNUSABLE, REMOVAL, Effect, is_harmful_side
from refusalctl.steps.completions import write_completions
from refusalctl.steps.comprehension import measure_comprehension
from refusalctl.steps.counts import counted_cell, judged_outcomes
from refusalctl.steps.directions import extract_directions
from refusalctl.steps.foresight import check_matrix
from refusalctl.steps.input_names import input_name, inputs_of, named
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import check_judge_is_there, judge_completions
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.control_effects import compare_controls, read_controls
from refusalctl.steps.selection.controls import FAMILY, SUBSPACES, draw_control_directions, n_controls
from refusalctl.steps.selection.scores import chosen_candidate, select_direction
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.subspace import build_subspace
from refusalctl.steps.verdicts import MatrixEvidence, affine_removal, clusters, decide_cells, facts_of_targets
from refusalctl.steps.zero_points import zero_points
from refusalctl.store import formats
from refusalctl.store.store import Artifact


@dataclass(frozen=True)
class CellAnswers:
    """What a model answered in one cell, and the labels of that."""

    cell: Cell
    completions: Artifact
    labels: Artifact


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


def ablations(settings: Settings, target: str) -> list[Cell]:
    """A target's baseline, then each direction ablated in it, its own first."""
    cells = [Cell(None, target, "baseline")]
    for lang in dict.fromkeys((target, *settings.sources)):
        cells.append(Cell(lang, target, "native" if lang == target else "transferred"))
    return cells


def inductions(settings: Settings, target: str) -> list[Cell]:
    """Each direction added in a target at every dose; the first is the verdict's."""
    doses = settings.verdict.doses
    return [
        Cell(lang, target, "induced", dose, is_extra_dose=dose != doses[0])
        for lang in dict.fromkeys((target, *settings.sources))
        for dose in doses
    ]


def ablation_cells(bench: Workbench, selections: Selections) -> list[CellAnswers]:
    """Baselines once per target, then each direction ablated in each target."""
    written = []
    for target in bench.settings.targets:
        prompts = draw_prompts(bench, target, "harmful", "test")
        for cell in ablations(bench.settings, target):
            if cell.source is None:
                written.append(_written(bench, prompts, cell, InterventionSpec()))
            elif cell.source in selections.found:
                written.append(_written(bench, prompts, cell, ablation(bench, selections.found[cell.source])))
    return _judged(bench, written)


def induction_cells(bench: Workbench, selections: Selections, targets: Iterable[str]) -> list[CellAnswers]:
    """Each direction added to harmless test prompts, at its own layer and every dose."""
    written = []
    for target in targets:
        prompts = draw_prompts(bench, target, "harmless", "test")
        for cell in inductions(bench.settings, target):
            if cell.source in selections.found and cell.coeff is not None:
                spec = InterventionSpec("add", selections.found[cell.source], coeff=cell.coeff)
                written.append(_written(bench, prompts, cell, spec))
    return _judged(bench, written)


def control_cells(
    bench: Workbench, matrix: Sequence[CellAnswers], compared: Mapping[LanguagePair, Artifact]
) -> list[CellAnswers]:
    """Answers under the first control draws of every pair, each at the strength that matches its damage.

    Taken before anything is known of their effect on answers. Fewer than 19 are shown and decide nothing. From 19 on
    they decide, so they are written where the pair's own behaviour clears the margin, until one does as much.
    """
    wanted, answered = bench.settings.controls.control_completions, {each.cell.key: each for each in matrix}
    written: list[CellAnswers] = []
    for pair, controls in compared.items() if wanted else ():
        unknown = controls.planned or any(answered[key].labels.planned for key in _beside(pair))
        if wanted < LEAST_CONTROLS or unknown:  # a plan counts all of them
            written += _judged(bench, [_control_answers(bench, pair, controls, draw) for draw in range(wanted)])
            continue
        before, real = (judged_outcomes(answered[key].labels) for key in _beside(pair))
        if not clears(before, real, bench.settings.verdict.margin, clusters(answered[str(pair)].labels)):
            continue
        for draw in range(wanted):
            written += _judged(bench, [_control_answers(bench, pair, controls, draw)])
            labels = written[-1].labels
            if not labels.planned and possibly_removed(before, judged_outcomes(labels)) >= surely_removed(before, real):
                break
    return written


def _beside(pair: LanguagePair) -> tuple[str, str]:
    """Keys of the cells that control answers are laid beside: without intervention, and under the real direction."""
    return f"baseline>{pair.target}", str(pair)


def _control_answers(bench: Workbench, pair: LanguagePair, controls: Artifact, draw: int) -> tuple[Cell, Artifact]:
    """A plan knows no strength: its ablations are whole, which costs the same."""
    several = bench.settings.verdict.rank > 1
    drawn = draw_control_directions(bench, pair.source)
    held = () if controls.planned else read_controls(controls).draws
    if not draw < n_controls(bench.settings):
        raise BadInput(
            f"control_completions is {draw + 1} or more, there are {n_controls(bench.settings)} control draws",
            hint="ask for as many with --n-controls",
        )
    spec = InterventionSpec(
        "subspace" if several else "ablate",
        drawn,
        family=SUBSPACES if several else FAMILY,
        draw=draw,
        strength=held[draw].strength if held else 1.0,
    )
    prompts = draw_prompts(bench, pair.target, "harmful", "test")
    return _written(bench, prompts, Cell(pair.source, pair.target, FAMILY, draw=draw), spec)


def affine_cells(bench: Workbench, selections: Selections, means: Mapping[str, Artifact]) -> list[CellAnswers]:
    """Each direction ablated around the target's own harmless mean, where plain ablation (to 0) would leave the stream
    on the harmful side. Not in a plan, which knows no means; nor for several directions at once."""
    if bench.dry_run or bench.settings.verdict.rank > 1:
        return []
    asked = named("selection", selections.found) | named("means", means)
    written = []
    for pair, zero in zero_points(asked).items():
        if (pair.is_native or pair.source in bench.settings.sources) and is_harmful_side(zero.place):
            prompts = draw_prompts(bench, pair.target, "harmful", "test")
            spec = InterventionSpec("affine", selections.found[pair.source], mean=means[pair.target])
            written.append(_written(bench, prompts, Cell(*pair, "affine"), spec))
    return _judged(bench, written)


def _written(bench: Workbench, prompts: Artifact, cell: Cell, spec: InterventionSpec) -> tuple[Cell, Artifact]:
    return cell, write_completions(bench, prompts, spec, bench.settings.answers.max_new_tokens)


def _judged(bench: Workbench, written: Sequence[tuple[Cell, Artifact]]) -> list[CellAnswers]:
    """After all writing: a judge with weights takes the model's place in memory."""
    judge = bench.settings.answers.judge
    return [CellAnswers(cell, answers, judge_completions(bench, answers, judge)) for cell, answers in written]


def comprehension_gates(bench: Workbench) -> dict[str, Artifact]:
    """Whether the model tells harmful from harmless, by target."""
    return {target: measure_comprehension(bench, target) for target in bench.settings.targets}


class Compared(NamedTuple):
    """What control directions do to the refusal score, by pair of languages, and why a pair has none of them: a clause
    whose subject they are."""

    found: dict[LanguagePair, Artifact]
    missing: dict[LanguagePair, str]


NOT_NEEDED = "were not run: no verdict of this matrix rests on this language's own direction"


def control_comparisons(
    bench: Workbench, matrix: Sequence[CellAnswers], others: Sequence[CellAnswers], harmless: Mapping[str, Artifact]
) -> Compared:
    """Every pair with a direction that a verdict may turn on. What cannot be compared is told from what was not asked
    for. Where a plan lacks labels all of them count. `others`: the same directions added, or ablated affinely."""
    compared, answered = Compared({}, {}), {each.cell.key: each.labels for each in (*matrix, *others)}
    for pair in (answers.cell.pair for answers in matrix):
        if pair is None:
            continue
        if not needs_controls(bench.settings, pair, answered, harmless.get(pair.target)):
            compared.missing[pair] = NOT_NEEDED
            continue
        try:
            compared.found[pair] = compare_controls(bench, pair.source, pair.target)
        except EmptySelection as error:
            compared.missing[pair] = f"could not be run: {error.message}"
            bench.note(f"{pair}: no controls: {error}")
    return compared


def needs_controls(
    settings: Settings, pair: LanguagePair, answered: Mapping[str, Artifact], harmless: Artifact | None
) -> bool:
    """Whether a verdict may turn on control directions of this pair.

    One of a source does. The own direction of a language that is no source is there as positive control: its draws
    would cost a search of their own, and nothing looks at them unless it works itself and another direction may do
    nothing there. `answered`: labels by cell; `harmless`: those of the target's harmless prompts. Where one of the
    target's is only planned, nothing is known and all count.
    """
    if not pair.is_native or pair.source in settings.sources:
        return True
    there = [each for key, each in answered.items() if key.endswith(f">{pair.target}")]
    if any(each.planned for each in (*there, *([] if harmless is None else [harmless]))):
        return True
    asked: list[tuple[Effect, Artifact | None, Condition, tuple[Condition, ...]]] = [
        (REMOVAL, answered[Cell(None, pair.target, "baseline").key], "native", ("transferred", "affine")),
        (INDUCTION, harmless, "induced", ("induced",)),
    ]
    for effect, before, native, conditions in asked:
        own = answered.get(Cell(*pair, native).key)
        if before is None or own is None:
            continue
        start, margin = judged_outcomes(before), settings.verdict.margin
        if not clears(start, judged_outcomes(own), margin, clusters(before), effect):
            continue
        cells = (Cell(source, pair.target, each) for source in settings.sources for each in conditions)
        others = (answered[cell.key] for cell in cells if cell.key in answered)
        if any(may_be_nothing(start, judged_outcomes(each), margin, effect) for each in others):
            return True
    return False


def target_means(bench: Workbench) -> dict[str, Artifact]:
    """Mean activations of every target, by which it is told where ablation puts its stream."""
    return {target: extract_directions(bench, target) for target in bench.settings.targets}


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


def _run(job: Job) -> RunChecks:
    settings = Settings.from_json(job.params["settings"])
    cells = msgspec.convert(job.params["cells"], tuple[Cell, ...])
    uncontrolled = {LanguagePair.parse(key): why for key, why in job.params["uncontrolled"].items()}
    evidence = MatrixEvidence.of(job.inputs, uncontrolled, settings)
    pairs = [cell.pair for cell in cells if cell.is_ablation and cell.pair is not None]
    decided = decide_cells(settings.verdict, pairs, evidence)
    counted = []
    for cell in cells:
        labels, moved = evidence.labels[cell.key], None
        if cell.source is not None:
            before = evidence.harmless[cell.target] if cell.condition == "induced" else evidence.baseline(cell.target)
            moved = flips(judged_outcomes(before), judged_outcomes(labels))
        verdicts = decided.get(cell.pair) if cell.is_ablation and cell.pair is not None else None
        removal, induction = verdicts if verdicts is not None else (None, None)
        if cell.condition == "affine" and cell.pair is not None:
            removal = affine_removal(settings.verdict, cell.pair, evidence, decided)
        prompts: Kind = "harmless" if cell.condition == "induced" else "harmful"
        written = job.inputs[input_name("completions", cell.key)].id
        told = counted_cell(cell, prompts, labels, written, flips=moved, removal=removal, induction=induction)
        if cell.is_ablation and cell.pair is not None:
            told = replace(told, zero=evidence.zeros.get(cell.pair))
        counted.append(told)
    record = Transfer(
        settings=settings.to_json(),
        model=job.params["model"],
        limits=RuleLimits(settings.verdict.margin, MAX_UNUSABLE, fewest_flips()),
        cells=tuple(counted),
        harmless={
            target: counted_cell(Cell(None, target, "baseline"), "harmless", labels, labels.inputs["completions"])
            for target, labels in evidence.harmless.items()
        },
        directions=_chosen_directions(inputs_of("selection", job.inputs)),
        no_direction=dict(sorted(job.params["missing"].items())),
        gates=dict(evidence.gates),
        targets=facts_of_targets(settings.verdict, settings.targets, evidence, decided),
    )
    formats.write_record(job.out, record)
    return {"cells": len(cells)}


def _chosen_directions(selections: dict[str, Artifact]) -> dict[str, ChosenDirection]:
    return {lang: chosen_candidate(each) for lang, each in sorted(selections.items())}


TRANSFER = Step("transfer", 11, "transfer", _run)


def check_plan(bench: Workbench) -> None:
    """Raise before the first pass what a plan cannot deliver; and find out whether the judge is there."""
    if bench.dry_run:
        check_matrix(bench)
    else:
        measure_transfer(bench.planning())
    check_judge_is_there(bench, bench.settings.answers.judge, bench.settings.langs)


def measure_transfer(bench: Workbench, *, is_checked: bool = False) -> Artifact:
    """The matrix over sources x targets, every missing input computed first.

    All of it is planned before anything is computed: a prompt that the model cannot take is named before the first
    pass, wherever in the matrix it is needed. `is_checked`: that was done already (`check_plan`).
    """
    if not is_checked:
        check_plan(bench)
    selections = select_all(bench)
    cells = ablation_cells(bench, selections)
    harmless = harmless_baselines(bench)
    gates = comprehension_gates(bench)
    means = target_means(bench)
    induced = induction_cells(bench, selections, harmless) if bench.settings.verdict.induce else []
    affine = affine_cells(bench, selections, means)
    controls = Compared({}, {})
    if bench.settings.controls.controls:
        controls = control_comparisons(bench, cells, [*induced, *affine], harmless)
    cells += [*control_cells(bench, cells, controls.found), *induced, *affine]
    beside = named("harmless", harmless) | named("comprehension", gates)
    beside |= named("controls", {str(pair): each for pair, each in controls.found.items()})
    beside |= named("means", means)
    return assemble_transfer(bench, selections, cells, beside, controls.missing)


def assemble_transfer(
    bench: Workbench,
    selections: Selections,
    cells: Sequence[CellAnswers],
    beside: dict[str, Artifact],
    uncontrolled: Mapping[LanguagePair, str] | None = None,
) -> Artifact:
    """The artifact of what was measured. `beside`: the other inputs by their names (`input_names`). `uncontrolled`: why
    pairs of languages have no controls, where these were asked for, as a clause whose subject they are."""
    inputs = named("selection", selections.found)
    for each in cells:
        inputs[input_name("completions", each.cell.key)] = each.completions
        inputs[input_name("labels", each.cell.key)] = each.labels
    params: JsonObject = {
        "settings": bench.settings.to_json(),
        "model": bench.model_key(),
        "cells": [msgspec.to_builtins(each.cell) for each in cells],
        "missing": selections.missing,
        "uncontrolled": {str(pair): why for pair, why in sorted((uncontrolled or {}).items())},
    }
    asked = bench.settings
    about = {"model": bench.ref.name, "data": asked.prompts.data, "sources": ",".join(asked.sources)}
    about |= {"targets": ",".join(asked.targets), "n": cells[0].completions.about["n"]}
    return bench.obtain(TRANSFER, params, inputs | beside, about)


def read_transfer(artifact: Artifact) -> Transfer:
    return formats.read_record(artifact.path, Transfer)
