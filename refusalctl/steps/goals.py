"""Goals: the parts of a transfer that can be computed apart from each other, in any order that their needs allow.

A goal is asked for by its name, as `--only` and workers on other machines do. It computes what it lacks, so needs are
only a matter of order: who does not wait for them does them first. Once all goals are done, `measure_transfer` finds
everything in the store and puts the matrix together, with the ids of a run that knew of no goals.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from refusalctl.data import sets
from refusalctl.errors import EmptySelection
from refusalctl.records.cell import Cell, LanguagePair
from refusalctl.settings import Settings
from refusalctl.stats.verdict import is_harmful_side
from refusalctl.steps.completions import write_completions
from refusalctl.steps.comprehension import measure_comprehension
from refusalctl.steps.directions import extract_directions
from refusalctl.steps.input_names import named
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import judge_completions
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.control_effects import compare_controls
from refusalctl.steps.selection.controls import draw_control_directions
from refusalctl.steps.selection.scores import select_direction
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import CellAnswers, ablation, ablations, control_cells, inductions, needs_controls
from refusalctl.steps.zero_points import zero_points
from refusalctl.store.store import Artifact

Loads = Literal["model", "judge"]
Work = Callable[[Workbench], Sequence[Artifact]]


@dataclass(frozen=True)
class Goal:
    """`lang`: the language that it is about, of a pair the target. `needs`: names of the goals that come before it.
    `loads`: what it wants in memory. `work` gives its artifacts, none where a language has no direction."""

    name: str
    lang: str
    needs: tuple[str, ...]
    loads: Loads
    work: Work


def goals_of(settings: Settings, harmless: Collection[str] | None = None) -> list[Goal]:
    """Every goal of a transfer, those before that others need; what the model answers before what judges read.

    `harmless`: targets with harmless test prompts, by default those that have them in the set. Raises `BadInput` for a
    language that the set does not have.
    """
    if harmless is None:
        data = settings.prompts.data
        sets.check_has(data, settings.langs)
        harmless = {lang for lang in settings.targets if sets.usable(data, lang, "harmless", "test")}
    answers = list(_answers(settings, harmless))
    model = [*_directions(settings), *answers, *_controls(settings)]
    return [*model, *map(_labels, answers), *_own_controls(settings, harmless), *_control_answers(settings, harmless)]


def pairs(settings: Settings) -> list[LanguagePair]:
    """Source and target of every direction that is ablated; each target's own comes first."""
    return [cell.pair for target in settings.targets for cell in ablations(settings, target) if cell.pair is not None]


def _directions(settings: Settings) -> Iterator[Goal]:
    for lang in settings.langs:
        yield Goal(f"select:{lang}", lang, (), "model", partial(_select, lang))


def _select(lang: str, bench: Workbench) -> list[Artifact]:
    """The direction, with all that comes before it; where there is none, that is a result and its means remain."""
    means = extract_directions(bench, lang)
    try:
        chosen = select_direction(bench, lang)
    except EmptySelection:  # `select_all` notes it
        return [means]
    ablation(bench, chosen)  # the subspace, where several directions are ablated together
    return [chosen]


def _answers(settings: Settings, harmless: Collection[str]) -> Iterator[Goal]:
    """Completions of every cell, and of harmless prompts without intervention."""
    for target in settings.targets:
        if target in harmless:
            yield Goal(f"answers:harmless:{target}", target, (), "model", partial(_harmless, target))
        for cell in _cells(settings, target, harmless):
            needs = _selected(cell.source, *([target] if cell.condition == "affine" else []))
            yield Goal(f"answers:{_suffix(cell)}", target, needs, "model", partial(_cell, cell))


def _cells(settings: Settings, target: str, harmless: Collection[str]) -> list[Cell]:
    cells = ablations(settings, target)
    cells += inductions(settings, target) if target in harmless and settings.verdict.induce else []
    if settings.verdict.rank == 1:
        cells += [Cell(*pair, "affine") for pair in pairs(settings) if pair.target == target]
    return cells


def _suffix(cell: Cell) -> str:
    """The cell's key without `>`, which a shell would take for a file."""
    return cell.key.replace(">", ":")


def _selected(*langs: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"select:{lang}" for lang in langs if lang is not None))


def _harmless(target: str, bench: Workbench) -> list[Artifact]:
    return [_written(bench, target, InterventionSpec(), harmless=True)]


def _cell(cell: Cell, bench: Workbench) -> list[Artifact]:
    spec = _spec(cell, bench)
    return [] if spec is None else [_written(bench, cell.target, spec, harmless=cell.condition == "induced")]


def _written(bench: Workbench, target: str, spec: InterventionSpec, *, harmless: bool) -> Artifact:
    prompts = draw_prompts(bench, target, "harmless" if harmless else "harmful", "test")
    return write_completions(bench, prompts, spec, bench.settings.answers.max_new_tokens)


def _spec(cell: Cell, bench: Workbench) -> InterventionSpec | None:
    """What is done to the model in a cell; None where there is nothing to do it with, or no need to."""
    if cell.source is None:
        return InterventionSpec()
    try:
        chosen = select_direction(bench, cell.source)
    except EmptySelection:
        return None
    if cell.coeff is not None:
        return InterventionSpec("add", chosen, coeff=cell.coeff)
    if cell.condition != "affine":
        return ablation(bench, chosen)
    means = extract_directions(bench, cell.target)
    if chosen.planned or means.planned:
        return None  # a plan knows no means
    zero = zero_points(named("selection", {cell.source: chosen}) | named("means", {cell.target: means}))
    (place,) = zero.values()
    return InterventionSpec("affine", chosen, mean=means) if is_harmful_side(place.place) else None


def _labels(goal: Goal) -> Goal:
    """The labels of what a goal answers."""
    return Goal(goal.name.replace("answers:", "labels:", 1), goal.lang, (goal.name,), "judge", partial(_judge, goal))


def _judge(goal: Goal, bench: Workbench) -> list[Artifact]:
    return [judge_completions(bench, each, bench.settings.answers.judge) for each in goal.work(bench)]


def _controls(settings: Settings) -> Iterator[Goal]:
    """Whether the model tells the classes apart, and what control directions do in every pair."""
    for target in settings.targets:
        yield Goal(f"comprehension:{target}", target, _selected(target), "model", partial(_gate, target))
    if not settings.controls.controls:
        return
    for source in settings.sources:
        yield Goal(f"draws:{source}", source, _selected(source), "model", partial(_draws, source))
    for pair in pairs(settings):
        if pair.source in settings.sources:
            needs = (f"draws:{pair.source}", *_selected(*pair))
            yield Goal(f"controls:{pair.source}:{pair.target}", pair.target, needs, "model", partial(_compare, pair))


def _own_controls(settings: Settings, harmless: Collection[str]) -> Iterator[Goal]:
    """Of targets that are no source: the labels there tell whether their own directions need controls."""
    for target in settings.targets if settings.controls.controls else ():
        if target not in settings.sources:
            cells = _cells(settings, target, harmless)
            needs = (*_selected(*settings.langs), *(f"labels:{_suffix(cell)}" for cell in cells))
            needs += (f"labels:harmless:{target}",) if target in harmless else ()
            work = _comparison(settings, harmless, LanguagePair(target, target))
            yield Goal(f"controls:{target}:{target}", target, needs, "model", work)


def _comparison(settings: Settings, harmless: Collection[str], pair: LanguagePair) -> Work:
    if pair.source in settings.sources:
        return partial(_compare, pair)
    return partial(_compare_own, pair.target, _cells(settings, pair.target, harmless), pair.target in harmless)


def _compare_own(target: str, cells: Sequence[Cell], has_harmless: bool, bench: Workbench) -> list[Artifact]:
    pair, judge = LanguagePair(target, target), bench.settings.answers.judge
    answers = {cell.key: each for cell in cells for each in _cell(cell, bench)}
    answered = {key: judge_completions(bench, each, judge) for key, each in answers.items()}
    harmless = judge_completions(bench, _harmless(target, bench)[0], judge) if has_harmless else None
    return _compare(pair, bench) if needs_controls(bench.settings, pair, answered, harmless) else []


def _gate(target: str, bench: Workbench) -> list[Artifact]:
    return [measure_comprehension(bench, target)]


def _draws(source: str, bench: Workbench) -> list[Artifact]:
    try:
        return [draw_control_directions(bench, source)]
    except EmptySelection:
        return []


def _compare(pair: LanguagePair, bench: Workbench) -> list[Artifact]:
    try:
        return [compare_controls(bench, *pair)]
    except EmptySelection:
        return []


def _control_answers(settings: Settings, harmless: Collection[str]) -> Iterator[Goal]:
    """One goal per pair: its draws are answered one after the other, until one does as much as the real direction."""
    if not (settings.controls.controls and settings.controls.control_completions):
        return
    for pair in pairs(settings):
        here, compare = f"{pair.source}:{pair.target}", _comparison(settings, harmless, pair)
        needs = (f"controls:{here}", f"labels:{here}", f"labels:baseline:{pair.target}")
        yield Goal(f"control-answers:{here}", pair.target, needs, "model", partial(_answer_controls, pair, compare))


def _answer_controls(pair: LanguagePair, compare: Work, bench: Workbench) -> list[Artifact]:
    compared = compare(bench)
    if not compared:
        return []
    condition: Literal["native", "transferred"] = "native" if pair.is_native else "transferred"
    beside = []
    for cell in (Cell(None, pair.target, "baseline"), Cell(*pair, condition)):
        for answers in _cell(cell, bench):
            beside.append(CellAnswers(cell, answers, judge_completions(bench, answers, bench.settings.answers.judge)))
    return [each.labels for each in control_cells(bench, beside, {pair: compared[0]})]
