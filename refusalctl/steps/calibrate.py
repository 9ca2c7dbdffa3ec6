"""`calibrate`: the whole pipeline on model organisms, its verdicts against the truth that was planted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.organisms import truth
from refusalctl.organisms.design import ARCHITECTURES, TOPIC_AXIS
from refusalctl.organisms.designs import KNOWN, Organism
from refusalctl.records.calibration import (
    QUESTIONS,
    CalibrationTrial,
    CalibrationTrials,
    Finding,
    Grade,
    Question,
    VerdictGrade,
)
from refusalctl.records.transfer import TransferCell
from refusalctl.settings import Machine, Settings
from refusalctl.stats.advice import prompts_needed
from refusalctl.stats.paired import Moves
from refusalctl.steps.input_names import inputs_of
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.organism_counts import counts_of
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.transfer import measure_transfer, read_transfer
from refusalctl.store import formats
from refusalctl.store.store import Artifact

SIZES = (48, 128, 256)
QUICK_SIZES = (128,)
# a rank-1 experiment cannot remove what two directions carry; asked again with two, it must
RANKS = {"plane": (1, 2)}


@dataclass(frozen=True)
class Trial:
    """One organism at one number of test prompts and one rank of ablation."""

    organism: Organism
    n: int
    rank: int = 1

    @property
    def sources(self) -> tuple[str, ...]:
        """Directions come from the first two languages, whose part all designs agree on, and each target's own."""
        return self.organism.design.langs[:2]

    def settings(self, base: Settings) -> Settings:
        langs, name = self.organism.design.langs, self.organism.name
        return base.changed(
            sources=self.sources,
            targets=langs,
            data=name,
            n_test=self.n,
            rank=self.rank,
        )


# Answers are three words long; train and validation sizes are small because organisms leave little noise.
BASE = Settings.of(
    n_train=64,
    n_val=32,
    max_new_tokens=16,
    rule="arditi",
    control_prompts=8,
    control_candidates=4,
)


def trials(designs: Sequence[str], *, quick: bool) -> list[Trial]:
    """Each design in each architecture (seed = its number) at each size; `quick`: one architecture, one size."""
    if unknown := [name for name in designs if name not in KNOWN]:
        raise BadInput(f"there is no design {unknown[0]!r}", hint=f"known: {', '.join(KNOWN)}")
    return [
        Trial(Organism(KNOWN[name], architecture, ARCHITECTURES.index(architecture)), n, rank)
        for name in designs
        for architecture in KNOWN[name].architectures[: 1 if quick else None]
        for n in (QUICK_SIZES if quick else SIZES)
        for rank in RANKS.get(name, (1,))
    ]


@dataclass(frozen=True)
class TrialRun:
    """What one trial gave, how long that took, and its transfer matrix."""

    trial: Trial
    record: CalibrationTrial
    seconds: float
    transfer: Artifact


@dataclass(frozen=True)
class CalibrationRun:
    """All trials, and the artifact that keeps what they gave."""

    trials: tuple[TrialRun, ...]
    artifact: Artifact

    @property
    def record(self) -> CalibrationTrials:
        return CalibrationTrials(tuple(each.record for each in self.trials))


def grade(expected: truth.Truth, measured: Finding, n: int) -> Grade:
    """A verdict held back is missed where `n` prompts are enough for the right one, which no luck makes right."""
    if measured == expected.verdict:
        return "right"
    if expected.verdict not in truth.DECIDED or measured not in ("inconclusive", "uninformative"):
        return "wrong"
    if expected.near_margin and measured == "inconclusive":
        return "rightly undecided"
    return "missed" if expected.enough is not None and n >= expected.enough else "rightly undecided"


def expected_verdict(trial: Trial, source: str, target: str, question: Question, margin: float) -> truth.Truth:
    """Counted on the built model where a design asks for that, else from the formula of its construction."""
    if trial.organism.design.counted:
        return counts_of(trial.organism).truth(source, target, question, margin)
    if question == "removal":
        found = truth.removal(trial.organism, source, target, margin, trial.rank)
    else:
        found = truth.induction(trial.organism, source, target, margin)
    return replace(found, enough=enough_by_share(found, margin))


def enough_by_share(expected: truth.Truth, margin: float) -> int | None:
    """Prompts at which a true share of moves, all one way, gives the right verdict in 80 % of experiments."""
    if expected.verdict not in ("transfers", "does not transfer", "reverses") or expected.removed is None:
        return None
    shares = Moves(max(expected.removed, 0.0), max(-expected.removed, 0.0), 0, 1.0)
    return prompts_needed(expected.verdict, shares, None, margin)


def grade_all(trial: Trial, cells: Iterable[TransferCell], margin: float) -> list[VerdictGrade]:
    """Every pair of languages, both questions; a pair without a cell measured `no direction`."""
    ablations = {(cell.source, cell.target): cell for cell in cells if cell.is_ablation}
    langs = trial.organism.design.langs
    graded = []
    for question in QUESTIONS if trial.rank == 1 else QUESTIONS[:1]:  # addition has no rank
        for target in langs:
            for source in dict.fromkeys((target, *trial.sources)):
                expected = expected_verdict(trial, source, target, question, margin)
                cell = ablations.get((source, target))
                verdict = cell and (cell.removal if question == "removal" else cell.induction)
                measured: Finding = verdict.value if verdict else "no direction"
                graded.append(
                    VerdictGrade(
                        source=source,
                        target=target,
                        question=question,
                        truth=expected.verdict,
                        measured=measured,
                        grade=grade(expected, measured, trial.n),
                        effect=expected.removed,
                        near_margin=expected.near_margin,
                        enough=expected.enough,
                    )
                )
    return graded


def likeness(trial: Trial, selections: dict[str, Artifact]) -> tuple[dict[str, float], dict[str, float]]:
    """Cosine of each chosen vector to its language's planted mean difference, and to the inert topic axis."""
    import torch

    from refusalctl.model.files.organism_weights import axes, planted_vector

    where = axes(trial.organism)[TOPIC_AXIS]
    cosine, topic = {}, {}
    for lang, selection in selections.items():
        tensors, _header = formats.read_vectors(selection.path / SELECTION_FILE, "selection")
        found = torch.nn.functional.normalize(tensors["direction"].double(), dim=0)
        planted = planted_vector(trial.organism, lang)
        if planted is not None:
            cosine[lang] = float(found @ torch.nn.functional.normalize(planted, dim=0))
        topic[lang] = float(found @ where)
    return cosine, topic


def run_trial(bench: Workbench, trial: Trial) -> TrialRun:
    """The transfer matrix of one organism, graded."""
    started = time.perf_counter()
    transfer = measure_transfer(bench)
    chosen = inputs_of("selection", transfer.inputs)
    selections = {lang: bench.store.open("selection", identifier) for lang, identifier in chosen.items()}
    cosine, topic = likeness(trial, selections)
    organism = trial.organism
    record = CalibrationTrial(
        design=organism.design.name,
        architecture=organism.architecture,
        seed=organism.seed,
        n=trial.n,
        rank=trial.rank,
        verdicts=tuple(grade_all(trial, read_transfer(transfer).cells, bench.settings.verdict.margin)),
        cosine=cosine,
        topic=topic,
        transfer=transfer.id,
    )
    return TrialRun(trial, record, time.perf_counter() - started, transfer)


def _run(job: Job) -> RunChecks:
    record = CalibrationTrials.from_json({"trials": job.params["trials"]})
    formats.write_record(job.out, record)
    return {"trials": len(record.trials)}


CALIBRATE = Step("calibrate", 4, "calibration", _run)


def run_calibration(bench: Workbench, chosen: Iterable[Trial], base: Settings = BASE) -> CalibrationRun:
    """Run every trial in `bench`'s store, each on its organism's own workbench."""
    if bench.dry_run:
        raise BadInput("a calibration has no plan of steps", hint="`trials` says what it would run")
    runs: list[TrialRun] = []
    todo = list(chosen)
    with bench.progress.task("calibrate", len(todo)) as advance:
        for trial in todo:
            machine = Machine(trial.organism.name, "cpu", "float32", batch_size=64)
            runs.append(run_trial(Workbench(bench.store, machine, trial.settings(base)), trial))
            advance()
    about: JsonObject = {"trials": len(todo), "designs": ",".join(dict.fromkeys(t.organism.design.name for t in todo))}
    params = {"trials": msgspec.to_builtins([each.record for each in runs]), "base": base.to_json()}
    inputs = {f"transfer:{index:03d}": each.transfer for index, each in enumerate(runs)}
    return CalibrationRun(tuple(runs), bench.obtain(CALIBRATE, params, inputs, about))


def read_calibration(artifact: Artifact) -> CalibrationTrials:
    return formats.read_record(artifact.path, CalibrationTrials)
