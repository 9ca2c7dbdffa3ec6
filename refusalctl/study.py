"""`Study`: one question to one model, with every step as a method. The command line, a notebook and a worker on another
machine all hold one.

Every method gives the finished artifact if the store has it, else computes it and whatever it needs first. Nothing is
computed twice, and an interrupted step goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from refusalctl import results as r
from refusalctl.disk import given_path
from refusalctl.errors import BadInput
from refusalctl.interventions import Intervention
from refusalctl.language_codes import check_code
from refusalctl.organisms.designs import DESIGNS
from refusalctl.progress import How, Progress, progress, say
from refusalctl.records.rows import Kind, Split
from refusalctl.report.comparison import compare_transfers
from refusalctl.report.make import make_report
from refusalctl.resolve import Resolved, resolve
from refusalctl.settings import DEFAULT_STORE, STORE_VARIABLE, GeometrySettings, Machine, Settings, check_names
from refusalctl.steps.activations import collect_activations
from refusalctl.steps.calibrate import CalibrationRun, Trial, run_calibration, trials
from refusalctl.steps.completions import write_completions
from refusalctl.steps.comprehension import measure_comprehension
from refusalctl.steps.directions import extract_directions
from refusalctl.steps.forecast import Forecast, forecast_work
from refusalctl.steps.geometry import compare_geometry
from refusalctl.steps.interventions import Source, end_of_instruction
from refusalctl.steps.precision import compare_precision
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.control_effects import compare_controls
from refusalctl.steps.selection.openings import checked_openings
from refusalctl.steps.selection.scores import select_direction
from refusalctl.steps.step import Planned, Workbench
from refusalctl.steps.subspace import build_subspace
from refusalctl.steps.transfer import measure_transfer
from refusalctl.store.store import Store
from refusalctl.study_arms import InArms
from refusalctl.study_cost import Costing
from refusalctl.study_goals import Working
from refusalctl.study_labels import Labelling

if TYPE_CHECKING:
    from refusalctl.stats.precision import Deviation

GEOMETRY = GeometrySettings()


def default_store() -> Path:
    """`$REFUSALCTL_STORE`, else `artifacts` in the folder one is in."""
    given = os.environ.get(STORE_VARIABLE)
    return given_path(given, STORE_VARIABLE) if given else Path(DEFAULT_STORE)


class Study(Working, InArms, Labelling, Costing):
    """One question to one model.

    Settings are given by their names (docs/settings.md), for example `Study(model="org/name", data="polyrefuse",
    sources=["en"], targets=["ba"], n_test=128, controls=True)`; names that are not given come from the environment
    and then from their defaults. Languages of `sources` and `targets` share their prompts.

    `store`: the folder that keeps everything. `progress`: `auto` (bars where a person looks), `bars`, `lines`,
    `silent`, or an object of your own. `dry_run`: nothing is computed, `plan` says what would be.

    Raises `BadInput` for an unknown setting or a value that does not fit.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        store: Path | str | None = None,
        progress: How | Progress = "auto",
        dry_run: bool = False,
        **settings: object,
    ) -> None:
        self._open(resolve(settings | {"model": model}), store, progress, dry_run)

    def _open(
        self,
        asked: Resolved,
        store: Path | str | None,
        how: How | Progress,
        dry_run: bool,
        judge_url: str | None = None,
    ) -> None:
        shown = progress(how)
        kept = Store(default_store() if store is None else given_path(store, "store"), partial(say, shown))
        self.bench = Workbench(kept, asked.machine, asked.settings, shown, dry_run, judge_url)

    @classmethod
    def of(
        cls,
        asked: Resolved,
        *,
        store: Path | str | None = None,
        progress: How | Progress = "auto",
        dry_run: bool = False,
        judge_url: str | None = None,
    ) -> Self:
        """A study of settings that were resolved already."""
        made = cls.__new__(cls)
        made._open(asked, store, progress, dry_run, judge_url)
        return made

    @classmethod
    def from_file(
        cls,
        file: Path | str,
        *,
        store: Path | str | None = None,
        progress: How | Progress = "auto",
        dry_run: bool = False,
        **settings: object,
    ) -> Self:
        """The study that an experiment file describes; settings given here win over the file's."""
        return cls.of(
            resolve(settings, given_path(file, "the experiment file")), store=store, progress=progress, dry_run=dry_run
        )

    # --- what is asked ------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What is asked."""
        return self.bench.settings

    @property
    def machine(self) -> Machine:
        """Which model answers, and where."""
        return self.bench.machine

    @property
    def langs(self) -> tuple[str, ...]:
        """Every language that takes part, sources first."""
        return self.settings.langs

    @property
    def plan(self) -> list[Planned]:
        """The steps that were asked for so far, and which of them were there already."""
        return self.bench.plan

    @property
    def notes(self) -> list[str]:
        """What a reader of the results should know."""
        return self.bench.notes

    def changed(self, **settings: object) -> Study:
        """The same study with other settings; where they name no other model or machine, it shares the loaded model."""
        check_names(settings)
        machine = {name: value for name, value in settings.items() if name in self.machine.__struct_fields__}
        asked = self.settings.changed(**{k: v for k, v in settings.items() if k not in machine})
        made = Study.__new__(Study)
        made.bench = replace(self.bench.asking(asked), machine=self.machine.changed(**machine))
        return made

    # --- the steps ----------------------------------------------------------------------------------

    def prompts(self, lang: str, kind: Kind = "harmful", split: Split = "test") -> r.Prompts:
        """The drawn prompts of one language, class and split."""
        return r.Prompts(self.store, draw_prompts(self.bench, check_code(lang), kind, split))

    def activations(self, lang: str, kind: Kind = "harmful", split: Split = "train") -> r.Activations:
        """`resid_pre` of every prompt at every layer and end-of-instruction position."""
        drawn = draw_prompts(self.bench, check_code(lang), kind, split)
        return r.Activations(self.store, collect_activations(self.bench, drawn))

    def directions(self, lang: str) -> r.Directions:
        """Difference-in-means candidates of one language, at every position and layer."""
        return r.Directions(self.store, extract_directions(self.bench, check_code(lang)))

    def openings(self, lang: str) -> r.Openings:
        """How refusals open in one language, confirmed on validation prompts. Raises `UnfitOpenings` where given ones
        do not rank refusals above others, `EmptySelection` where derived ones do not or too little is refused."""
        return r.Openings(self.store, checked_openings(self.bench, check_code(lang)))

    def selection(self, lang: str) -> r.Selection:
        """The chosen direction of one language. Raises `EmptySelection` where nothing can be chosen honestly."""
        return r.Selection(self.store, select_direction(self.bench, check_code(lang)))

    def subspace(self, lang: str) -> r.Subspace:
        """`rank` orthonormal directions at the place of the chosen one."""
        lang = check_code(lang)
        chosen = select_direction(self.bench, lang)
        return r.Subspace(self.store, build_subspace(self.bench, chosen, lang))

    def completions(
        self,
        lang: str,
        intervention: Intervention | None = None,
        *,
        kind: Kind = "harmful",
        split: Split = "test",
        prompts: r.Prompts | None = None,
    ) -> r.Completions:
        """Greedy answers in one language under `rc.ablate(...)`, `rc.add(...)` or nothing."""
        drawn = prompts.artifact if prompts is not None else draw_prompts(self.bench, check_code(lang), kind, split)
        spec = (intervention or Intervention("none")).spec()
        written = write_completions(self.bench, drawn, spec, self.settings.answers.max_new_tokens)
        return r.Completions(self.store, written)

    def intervention(
        self,
        directions: Sequence[tuple[str, tuple[int, int] | None]],
        kind: str | None = None,
        coeff: float = 1.0,
        pos: int | None = None,
        layer: int | None = None,
        layers: Sequence[int] | None = None,
        positions: Sequence[int] | None = None,
    ) -> Intervention:
        """An intervention by references to directions, each with its (position, layer) where it has one.

        `pos` and `layer` are those of every directions artifact that names none. Raises `BadInput` for a combination
        that makes no sense, or directions of another model.
        """
        sources = []
        for reference, place in directions:
            artifact = self.store.resolve(reference)
            if place is None and (artifact.kind == "directions" or len(directions) == 1):
                sources.append(Source(artifact, pos, layer))
            else:
                sources.append(Source(artifact, *(place or (None, None))))
        several = len(sources) > 1 or any(each.artifact.kind == "subspace" for each in sources)
        asked = kind or ("subspace" if several else "ablate" if sources else "none")
        found = Intervention(asked, tuple(sources), coeff, _numbers(layers), _numbers(positions), layer, pos)
        found.spec().check(self.bench)
        return found

    def end_of_instruction(self, reference: str) -> list[int]:
        """All end-of-instruction positions of the template that an artifact's directions were read with."""
        return list(end_of_instruction(self.store.resolve(reference)))

    def comprehension(self, lang: str) -> r.Comprehension:
        """Whether the model tells harmful from harmless prompts in one language."""
        return r.Comprehension(self.store, measure_comprehension(self.bench, check_code(lang)))

    def controls(self, source: str, target: str) -> r.Controls:
        """What control directions of the source do in the target, beside the real direction."""
        return r.Controls(self.store, compare_controls(self.bench, check_code(source), check_code(target)))

    def geometry(
        self,
        langs: Sequence[str] | None = None,
        *,
        reference: str | None = None,
        at: tuple[int, int] | None = None,
        halves: int = GEOMETRY.halves,
        permutations: int = GEOMETRY.permutations,
        components: int = GEOMETRY.components,
    ) -> r.Geometry:
        """How alike the languages' directions are, beside their noise ceiling and chance.

        `reference`: the language on whose direction all are projected. `at`: (position, layer), by default the most
        reliable place. `halves`, `permutations`: random splits and shuffles; `components`: subspace dimensions.
        """
        named = list(langs or self.langs)
        if not named:
            raise BadInput("no language was named", hint="give langs, or sources and targets to the study")
        asked = GeometrySettings(
            reference=_code(reference), at=at, halves=halves, permutations=permutations, components=components
        )
        bench = self.bench.asking(self.settings.changed(sources=(), targets=tuple(named)))
        return r.Geometry(self.store, compare_geometry(bench, asked))

    def transfer(self, *, from_labels: Sequence[str | r.Labels] | None = None) -> r.Transfer:
        """Every source in every target: baseline, native and transferred ablation, with verdicts.

        `from_labels`: nothing is measured; these imported labels, results or references, make the matrix.
        """
        if from_labels is not None:
            return self.matrix_of(from_labels)
        if not self.settings.sources or not self.settings.targets:
            raise BadInput("a transfer needs languages", hint="name sources and targets")
        return r.Transfer(self.store, measure_transfer(self.bench, is_checked=self.is_checked))

    def report(
        self,
        transfers: Sequence[r.Transfer] | None = None,
        *,
        geometry: bool = True,
        reference: str | None = None,
        published: bool = False,
        with_text: bool = False,
        costs: Sequence[str | r.Cost] = (),
    ) -> r.Report:
        """One page with figures and tables of this study's transfer, or of the transfers that are given. `costs`:
        panels of their directions, results or references."""
        panels = [self.store.resolve(each, "cost") if isinstance(each, str) else each.artifact for each in costs]
        chosen = [each.artifact for each in (transfers or [self.transfer()])]
        made = make_report(
            self.bench,
            chosen,
            geometry=geometry,
            reference=_code(reference),
            published=published,
            with_text=with_text,
            costs=panels,
        )
        return r.Report(self.store, made)

    def compare(self, transfers: Sequence[r.Transfer]) -> r.Report:
        """Two transfers cell by cell, on the same prompts where their ids agree."""
        chosen = [each.artifact for each in transfers]
        return r.Report(self.store, compare_transfers(self.bench, chosen))

    # --- is it right? ------------------------------------------------------------------------------

    def precision(self, dtype: str = "bfloat16", *, against: str | None = None) -> Deviation:
        """The model in half precision, or quantised (`nf4`, `int8`), against itself in float32, or `against` the model
        that it was made from, on sample prompts. It is no step: a dry run refuses it with `BadInput`."""
        if self.bench.dry_run:
            raise BadInput("the comparison of precisions has no plan of steps", hint="ask without the dry run")
        return compare_precision(replace(self.bench, machine=self.machine.changed(dtype=dtype)), against=against)

    @staticmethod
    def trials(designs: Sequence[str] | None = None, *, quick: bool = True) -> list[Trial]:
        """What a calibration runs: designs, architectures and sizes."""
        return trials(list(designs or DESIGNS), quick=quick)

    def calibrate(self, todo: Sequence[Trial] | None = None) -> tuple[CalibrationRun, r.Calibration]:
        """Run the whole pipeline on model organisms whose truth is known; the run, and the result that keeps it."""
        found = run_calibration(self.bench, todo if todo is not None else self.trials())
        return found, r.Calibration(self.store, found.artifact)

    # --- planning and looking up -----------------------------------------------------------------------

    def forecast(self, *, probe: bool = False) -> Forecast:
        """What the missing steps of a dry run's plan ask of the model; with `probe` also how long that takes."""
        return forecast_work(self.bench, probe)

    def open(self, reference: str, kind: str | None = None) -> r.Result:
        """A result by id, unique prefix, name, or a query such as `directions:lang=ba`."""
        return r.result(self.store, self.store.resolve(reference, kind))

    def open_completions(self, reference: str) -> r.Completions:
        """Completions by a reference. Raises `BadInput` for another kind."""
        return r.Completions(self.store, self.store.resolve(reference, "completions"))

    def open_labels(self, reference: str) -> r.Labels:
        """Labels by a reference. Raises `BadInput` for another kind."""
        return r.Labels(self.store, self.store.resolve(reference, "labels"))

    def open_sample(self, reference: str) -> r.Sample:
        """A sample by a reference. Raises `BadInput` for another kind."""
        return r.Sample(self.store, self.store.resolve(reference, "sample"))

    def name(self, name: str, result: r.Result) -> None:
        """Let a name point to a result."""
        self.store.name(name, result.artifact)

    def all(self, kind: str | None = None) -> list[r.Result]:
        """Every result in the store, or one kind's, oldest first."""
        return [r.result(self.store, each) for each in self.store.all(kind)]

    def __repr__(self) -> str:
        asked = self.settings
        way = f" {','.join(asked.sources)} > {','.join(asked.targets)}" if asked.sources or asked.targets else ""
        return f"<Study {self.machine.model}{way} data={asked.prompts.data} store={self.store.root}>"


def _code(lang: str | None) -> str | None:
    return None if lang is None else check_code(lang)


def _numbers(given: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if given is None else tuple(given)


def open(reference: str, *, store: Path | str | None = None) -> r.Result:
    """A result of a store by id, unique prefix, name, or a query such as `directions:lang=ba`.

    Raises `NotFound`, `Ambiguous` (naming the candidates) or `BadInput`.
    """
    kept = Store(default_store() if store is None else given_path(store, "store"))
    return r.result(kept, kept.resolve(reference))


def transfer(model: str | None = None, **settings: Any) -> r.Transfer:
    """`Study(model, ...).transfer()`: the matrix of one question in one call."""
    return Study(model, **settings).transfer()
