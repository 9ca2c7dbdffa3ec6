"""`calibrate`: the whole pipeline on model organisms, its verdicts against the truth that was planted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from refusalctl.organisms import truth
from refusalctl.organisms.designs import ARCHITECTURES, DESIGNS, TOPIC_AXIS, Organism
from refusalctl.records.transfer import TransferCell
from refusalctl.settings import Machine, Settings
from refusalctl.stats.controls import needed
from refusalctl.steps.input_names import inputs_of
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.transfer import measure_transfer, read_transfer
from refusalctl.store import formats
from refusalctl.store.store import Artifact

CALIBRATION_FILE = "calibration.json"
QUESTIONS = ("removal", "induction")
SIZES = (48, 128, 256)
QUICK_SIZES = (128,)
GRADES = ("right", "undecided", "wrong")
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
        claims = sum(source != target for source in self.sources for target in langs)
        return base.changed(
            sources=self.sources,
            targets=langs,
            data=name,
            n_test=self.n,
            rank=self.rank,
            n_controls=needed(claims),
        )


# Answers are three words long; train and validation sizes are small because organisms leave little noise.
BASE = Settings.of(
    n_train=64,
    n_val=32,
    max_new_tokens=16,
    rule="arditi",
    controls=True,
    control_prompts=8,
    control_candidates=4,
    control_completions=0,
)


def trials(designs: Sequence[str], *, quick: bool) -> list[Trial]:
    """Each design in each architecture (seed = its number) at each size; `quick`: one architecture, one size."""
    architectures = ARCHITECTURES[:1] if quick else ARCHITECTURES
    return [
        Trial(Organism(DESIGNS[name], architecture, ARCHITECTURES.index(architecture)), n, rank)
        for name in designs
        for architecture in architectures
        for n in (QUICK_SIZES if quick else SIZES)
        for rank in RANKS.get(name, (1,))
    ]


class Graded(NamedTuple):
    """One verdict beside the truth. `grade`: right, undecided (held back though the truth is decided) or wrong."""

    source: str
    target: str
    question: str
    truth: str
    measured: str
    grade: str
    effect: float | None
    near_margin: bool


@dataclass(frozen=True)
class Outcome:
    """What one trial gave. `cosine` and `topic` by language: of the chosen vector to the planted mean difference,
    and to the inert topic axis."""

    trial: Trial
    graded: list[Graded]
    cosine: dict[str, float]
    topic: dict[str, float]
    seconds: float
    artifact: str

    def as_json(self) -> dict[str, Any]:
        organism = self.trial.organism
        return {
            "design": organism.design.name, "architecture": organism.architecture, "seed": organism.seed,
            "n": self.trial.n, "rank": self.trial.rank, "verdicts": [g._asdict() for g in self.graded],
            "cosine": self.cosine, "topic": self.topic, "transfer": self.artifact,
        }  # fmt: skip


def grade(expected: truth.Truth, measured: str) -> str:
    """A verdict held back is undecided, not wrong; near the margin, holding back is right."""
    if measured == expected.verdict or (expected.near_margin and measured == "inconclusive"):
        return "right"
    if expected.verdict in truth.DECIDED and measured in ("inconclusive", "uninformative"):
        return "undecided"
    return "wrong"


def expected_verdict(trial: Trial, source: str, target: str, question: str, margin: float) -> truth.Truth:
    if question == "removal":
        return truth.removal(trial.organism, source, target, margin, trial.rank)
    return truth.induction(trial.organism, source, target, margin)


def grade_all(trial: Trial, cells: Iterable[TransferCell], margin: float) -> list[Graded]:
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
                measured = verdict.value if verdict else "no direction"
                right = grade(expected, measured)
                told = (expected.verdict, measured, right, expected.removed, expected.near_margin)
                graded.append(Graded(source, target, question, *told))
    return graded


def likeness(trial: Trial, selections: dict[str, Artifact]) -> tuple[dict[str, float], dict[str, float]]:
    """Cosine of each chosen vector to its language's planted mean difference, and to the inert topic axis."""
    import torch

    from refusalctl.model.files.organism_weights import axes

    where = axes(trial.organism)
    cosine, topic = {}, {}
    for lang, selection in selections.items():
        tensors, _header = formats.read_vectors(selection.path / SELECTION_FILE, "selection")
        found = torch.nn.functional.normalize(tensors["direction"].double(), dim=0)
        planted = truth.planted(trial.organism, lang)
        if planted is not None:
            cosine[lang] = float(found @ (torch.tensor(planted, dtype=torch.float64) @ where))
        topic[lang] = float(found @ where[TOPIC_AXIS])
    return cosine, topic


def run_trial(bench: Workbench, trial: Trial) -> tuple[Outcome, Artifact]:
    """The transfer matrix of one organism, graded."""
    started = time.perf_counter()
    artifact = measure_transfer(bench)
    chosen = inputs_of("selection", artifact.inputs)
    selections = {lang: bench.store.open("selection", identifier) for lang, identifier in chosen.items()}
    cosine, topic = likeness(trial, selections)
    graded = grade_all(trial, read_transfer(artifact).cells, bench.settings.verdict.margin)
    return Outcome(trial, graded, cosine, topic, time.perf_counter() - started, artifact.id), artifact


def _run(job: Job) -> RunChecks:
    rows = job.params["trials"]
    formats.write_json(job.out / CALIBRATION_FILE, "calibration", {"trials": rows})
    return {"trials": len(rows)}


CALIBRATE = Step("calibrate", 1, "calibration", _run)


@dataclass
class Calibration:
    """All outcomes, and the artifact that keeps them."""

    outcomes: list[Outcome] = field(default_factory=list)
    artifact: Artifact | None = None

    def count(self, design: str | None = None) -> dict[str, int]:
        """Verdicts by grade, of one design or of all."""
        found = [g.grade for o in self.outcomes for g in o.graded if design in (None, o.trial.organism.design.name)]
        return {each: found.count(each) for each in GRADES}


def run_calibration(bench: Workbench, chosen: Iterable[Trial], base: Settings = BASE) -> Calibration:
    """Run every trial in `bench`'s store, each on its organism's own workbench."""
    result, inputs = Calibration(), {}
    todo = list(chosen)
    with bench.progress.task("calibrate", len(todo)) as advance:
        for index, trial in enumerate(todo):
            machine = Machine(trial.organism.name, "cpu", "float32", batch_size=64)
            outcome, artifact = run_trial(Workbench(bench.store, machine, trial.settings(base)), trial)
            result.outcomes.append(outcome)
            inputs[f"transfer:{index:03d}"] = artifact
            advance()
    about = {"trials": len(todo), "designs": ",".join(dict.fromkeys(t.organism.design.name for t in todo))}
    params = {"trials": [o.as_json() for o in result.outcomes], "base": base.to_json()}
    result.artifact = bench.obtain(CALIBRATE, params, inputs, about)
    return result


def read_calibration(artifact: Artifact) -> dict[str, Any]:
    return formats.read_json(artifact.path / CALIBRATION_FILE, "calibration")
