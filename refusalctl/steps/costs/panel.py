"""`cost`: what interventions break beside what they remove, at every dose, each paired with the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from refusalctl.data import sets
from refusalctl.data.documents import Documents
from refusalctl.errors import BadInput, EmptySelection
from refusalctl.json_types import JsonObject
from refusalctl.model.judges import declared
from refusalctl.records.cost import MEASURES, Cost, CostArm, CostEffect, Measure, Unmeasured
from refusalctl.records.rows import Kind
from refusalctl.steps.completions import write_completions
from refusalctl.steps.costs.arms import FULL, LADDER, NO_LADDER, Arm, check_arms
from refusalctl.steps.costs.benchmark import AskedTask, run_benchmark
from refusalctl.steps.costs.drift import measure_drift
from refusalctl.steps.costs.losses import measure_answer_losses, measure_text_losses
from refusalctl.steps.costs.matching import matched_doses
from refusalctl.steps.costs.pairing import Asked, effects_of
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import check_judge, judge_completions
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

OVER_REFUSAL: dict[Measure, Kind] = {"safe": "harmless", "unsafe": "harmful"}


class Behaviour(NamedTuple):
    """An off-target behaviour: the share of answers to a set's prompts with one of `phrases`, or refused by `judge`.

    `label`: what it is called in the panel, where the set, its class and the judge do not tell it from another.
    """

    data: str
    kind: Kind = "harmless"
    phrases: tuple[str, ...] | None = None
    judge: str | None = None
    label: str = ""

    @property
    def name(self) -> str:
        by = self.label or self.judge
        return f"{self.data} {self.kind}" + (f", {by}" if by else "")

    def check(self) -> None:
        """Raise `BadInput` for what cannot be counted, or would count every answer or none."""
        if (self.phrases is None) == (self.judge is None):
            raise BadInput(f"the behaviour {self.name!r} is counted by phrases or by a judge: give one of them")
        if self.phrases is not None and not (self.phrases and all(phrase.strip() for phrase in self.phrases)):
            raise BadInput(f"the behaviour {self.name!r} has no phrases, or an empty one, which every answer holds")
        if self.judge is not None:
            declared(self.judge)
        sets.set_languages(self.data)


@dataclass(frozen=True)
class CostQuestion:
    """What a panel measures beside removal, KL and loss on the model's own answers, which it always does."""

    arms: tuple[Arm, ...]
    langs: tuple[str, ...]
    doses: tuple[float, ...] = LADDER
    tasks: tuple[AskedTask, ...] = ()
    texts: tuple[tuple[str, Documents], ...] = ()  # language, documents
    contrasts: tuple[str, ...] = ()  # prompt sets whose harmless prompts are safe and whose harmful ones are not
    behaviours: tuple[Behaviour, ...] = ()
    match_removal: float | None = None
    match_kl: float | None = None


@dataclass
class _Panel:
    """Comparisons gathered so far: what is asked, and the artifacts of both sides."""

    bench: Workbench
    question: CostQuestion
    asked: list[Asked] = field(default_factory=list)
    inputs: dict[str, Artifact] = field(default_factory=dict)
    unmeasured: list[Unmeasured] = field(default_factory=list)

    def conditions(self) -> Iterator[tuple[Arm, float, InterventionSpec]]:
        for arm in self.question.arms:
            for dose in arm.doses(self.question.doses):
                yield arm, dose, arm.at(dose)

    def add(self, asked: Asked, before: Artifact | None, after: Artifact) -> None:
        number = len(self.asked)
        self.asked.append(asked)
        self.inputs |= {} if before is None else {f"before:{number}": before}
        self.inputs[f"after:{number}"] = after

    def lacks(self, measure: Measure, name: str, lang: str | None, why: str) -> None:
        self.unmeasured.append(Unmeasured(measure, name, lang, why))
        self.bench.note(f"cost: {measure} {name}{f' in {lang}' if lang else ''} is not measured: {why}")


# --- what is measured --------------------------------------------------------------------------------------


def _prompts(bench: Workbench, data: str, lang: str, kind: Kind) -> Artifact | str:
    """Test prompts of one class, or why there are none."""
    if lang not in sets.set_languages(data):
        return f"the prompt set {data!r} has no {lang}"
    if not sets.usable(data, lang, kind, "test"):
        return f"the prompt set {data!r} has no {kind} test prompts in {lang}"
    wanted = bench.settings.prompts.n_test
    there = len(sets.usable(data, lang, kind, "test"))
    other = data != bench.settings.prompts.data
    few = min(wanted, there) if wanted is not None and other else wanted
    langs = (lang,) if other else bench.settings.targets
    asked = bench.settings.changed(data=data, sources=(), targets=langs, n_test=few)
    return draw_prompts(bench.asking(asked), lang, kind, "test")


def _written(panel: _Panel, prompts: Artifact, spec: InterventionSpec | None = None) -> Artifact:
    return write_completions(
        panel.bench, prompts, spec or InterventionSpec(), panel.bench.settings.answers.max_new_tokens
    )


class _Answered(NamedTuple):
    """One comparison of answers: what is asked, its prompts, and the judge that counts it; None: phrases do."""

    asked: Asked
    prompts: Artifact
    judge: str | None


def _answers_asked(panel: _Panel) -> Iterator[_Answered]:
    """Everything that is told from answers, without arm and dose."""
    settings, question = panel.bench.settings, panel.question
    data, judge = settings.prompts.data, settings.answers.judge
    wanted: list[tuple[Measure, str, Behaviour]] = [("removal", data, Behaviour(data, "harmful", judge=judge))]
    for each in question.contrasts:
        wanted += [(measure, each, Behaviour(each, kind, judge=judge)) for measure, kind in OVER_REFUSAL.items()]
    wanted += [("off-target", b.name, b) for b in question.behaviours]
    for measure, name, asked in wanted:
        by, phrases = asked.judge, asked.phrases
        for lang in question.langs:
            prompts = _prompts(panel.bench, asked.data, lang, asked.kind)
            if isinstance(prompts, str):
                panel.lacks(measure, name, lang, prompts)
                continue
            try:
                if by is not None:
                    check_judge(by, lang)
            except BadInput as error:
                panel.lacks(measure, name, lang, error.message)
                continue
            yield _Answered(Asked("", 1.0, measure, name, lang, phrases), prompts, by)


def _answers(panel: _Panel) -> None:
    """Written in one go, then judged: a judge with weights takes the model's place in memory."""
    written = []
    for each in list(_answers_asked(panel)):
        before = _written(panel, each.prompts)
        for arm, dose, spec in panel.conditions():
            written.append((each, arm, dose, before, _written(panel, each.prompts, spec)))
    for each, arm, dose, before, after in written:
        sides = (before, after)
        if each.judge is not None:
            sides = tuple(judge_completions(panel.bench, side, each.judge) for side in sides)  # type: ignore[assignment]
        panel.add(msgspec.structs.replace(each.asked, arm=arm.name, dose=dose), *sides)


def _model_alone(panel: _Panel) -> None:
    """What needs no judge: KL and own answers on harmless prompts, texts, and lm-eval's tasks."""
    bench, question = panel.bench, panel.question
    data = bench.settings.prompts.data
    for lang in question.langs:
        prompts = _prompts(bench, data, lang, "harmless")
        if isinstance(prompts, str):
            panel.lacks("kl", data, lang, prompts)
            panel.lacks("own", data, lang, prompts)
            continue
        answers = _written(panel, prompts)
        try:
            before = measure_answer_losses(bench, answers, prompts, InterventionSpec())
        except EmptySelection as error:
            panel.lacks("own", data, lang, error.message)
            before = None
        for arm, dose, spec in panel.conditions():
            panel.add(Asked(arm.name, dose, "kl", data, lang), None, measure_drift(bench, prompts, spec))
            if before is not None:
                after = measure_answer_losses(bench, answers, prompts, spec)
                panel.add(Asked(arm.name, dose, "own", data, lang), before, after)
    for lang, text in question.texts:
        before = measure_text_losses(bench, text, lang, InterventionSpec())
        for arm, dose, spec in panel.conditions():
            after = measure_text_losses(bench, text, lang, spec)
            panel.add(Asked(arm.name, dose, "text", text.name, lang), before, after)
    for task in question.tasks:
        before = run_benchmark(bench, task, InterventionSpec())
        for arm, dose, spec in panel.conditions():
            panel.add(Asked(arm.name, dose, "task", task.task.name), before, run_benchmark(bench, task, spec))


# --- the panel ---------------------------------------------------------------------------------------------


def _run(job: Job) -> RunChecks:
    params = job.params
    effects: list[CostEffect] = []
    for number, each in enumerate(msgspec.convert(params["asked"], list[Asked])):
        before = job.inputs.get(f"before:{number}")
        effects += effects_of(each, before, job.inputs[f"after:{number}"])
    arms = msgspec.convert(params["arms"], tuple[CostArm, ...])
    langs, levels = tuple(params["langs"]), params["levels"]
    value = Cost(
        model=params["model"],
        data=params["data"],
        judge=params["judge"],
        langs=langs,
        arms=arms,
        effects=tuple(sorted(effects, key=_order(arms))),
        matches=matched_doses(arms, effects, langs, levels["removal"], levels["kl"]),
        unmeasured=msgspec.convert(params["unmeasured"], tuple[Unmeasured, ...]),
        lm_eval=params["lm_eval"],
    )
    formats.write_record(job.out, value)
    return {"effects": len(effects)}


def _order(arms: Sequence[CostArm]) -> Callable[[CostEffect], tuple[int, float, int]]:
    """Arms as asked, doses upwards; measures and names in the order of the panel."""
    rank = {arm.name: i for i, arm in enumerate(arms)}
    return lambda effect: (rank[effect.arm], effect.dose, MEASURES.index(effect.measure))


COST = Step("cost", 2, "cost", _run)


def measure_cost(bench: Workbench, question: CostQuestion) -> Artifact:
    """The panel of one or more interventions: removal, KL, losses, tasks, over-refusal and off-target behaviour.

    Everything under the full dose and along the ladder is compared with one baseline, on the same prompts, texts and
    items. Raises `BadInput` before the first pass for what cannot be asked.
    """
    if not question.langs:
        raise BadInput("no language was named", hint="--langs en")
    check_arms(bench, question.arms, question.doses)
    _check_asked(question, bench.settings.answers.judge)
    bench = bench.asking(bench.settings.changed(sources=(), targets=question.langs))
    sets.check_has(bench.settings.prompts.data, question.langs)
    panel = _Panel(bench, question)
    _model_alone(panel)
    _answers(panel)
    arms = [_as_record(arm, question) for arm in question.arms]
    params: JsonObject = {
        "model": bench.model_key(),
        "data": bench.settings.prompts.data,
        "judge": bench.settings.answers.judge,
        "langs": list(question.langs),
        "arms": msgspec.to_builtins(arms),
        "asked": msgspec.to_builtins(panel.asked),
        "unmeasured": msgspec.to_builtins(panel.unmeasured),
        "levels": {"removal": question.match_removal, "kl": question.match_kl},
        "lm_eval": _version(question),
    }
    about: JsonObject = {
        "model": bench.ref.name,
        "data": bench.settings.prompts.data,
        "lang": ",".join(question.langs),
        "arms": ", ".join(arm.name for arm in question.arms),
    }
    inputs = panel.inputs | _directions(question.arms)
    return bench.obtain(COST, params, inputs, about)


def _check_asked(question: CostQuestion, judge: str) -> None:
    """Raise `BadInput` before the first pass for a judge, a set or a library that is not there, and equal names."""
    declared(judge)
    for data in question.contrasts:
        sets.set_languages(data)
    for each in question.behaviours:
        each.check()
    names = [each.name for each in question.behaviours]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two behaviours are called {name!r}", hint="tell them apart by labels or names of files")
    _version(question)


def _as_record(arm: Arm, question: CostQuestion) -> CostArm:
    return CostArm(
        name=arm.name,
        kind=arm.spec.kind,
        words=arm.spec.describe(),
        coeff=arm.spec.coeff,
        directions=tuple(source.artifact.id for source in arm.spec.sources),
        langs=arm.langs,
        doses=arm.doses(question.doses),
        no_ladder=None if arm.has_ladder or set(question.doses) <= {FULL} else NO_LADDER,
    )


def _directions(arms: Sequence[Arm]) -> dict[str, Artifact]:
    found = {source.artifact.id: source.artifact for arm in arms for source in arm.spec.sources}
    return {f"direction:{i}": artifact for i, artifact in enumerate(found.values())}


def _version(question: CostQuestion) -> str | None:
    from refusalctl.model.harness import version

    return version() if question.tasks else None


def read_cost(artifact: Artifact) -> Cost:
    return formats.read_record(artifact.path, Cost)
