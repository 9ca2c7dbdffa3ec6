"""`calibration.json`: verdicts on model organisms beside the truth that was planted in them."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from refusalctl.records.record import Part, Record
from refusalctl.records.verdict import VerdictValue

Question = Literal["removal", "induction"]
Finding = Literal[VerdictValue, "no direction"]
Grade = Literal["right", "rightly undecided", "missed", "wrong"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
GRADES: tuple[Grade, ...] = get_args(Grade)


class VerdictGrade(Part, frozen=True):
    """One verdict beside the truth. A verdict that is held back though the truth is decided is `missed` where the
    experiment had prompts enough for it, and `rightly undecided` where it had not, or the effect is near the margin.

    `effect` is the exact share of the target's prompts that the intervention turns, None without a direction. `enough`
    is the number of prompts at which the limits give the right verdict in 80 % of experiments, None where there is none
    to give, or no number would do.
    """

    source: str
    target: str
    question: Question
    truth: Finding
    measured: Finding
    grade: Grade
    effect: float | None
    near_margin: bool
    enough: int | None = None


class CalibrationTrial(Part, frozen=True):
    """One organism with `n` test prompts per class and one rank of ablation; `transfer` is the id of its matrix.

    `cosine` and `topic` by language: of the chosen vector to the planted mean difference, and to the inert topic axis.
    """

    design: str
    architecture: str
    seed: int
    n: int
    rank: int
    verdicts: tuple[VerdictGrade, ...]
    cosine: dict[str, float]
    topic: dict[str, float]
    transfer: str


class CalibrationTrials(Record, frozen=True):
    FORMAT: ClassVar[str] = "calibration"
    FILE: ClassVar[str] = "calibration.json"
    VERSION: ClassVar[int] = 3  # 2: what was held back was one grade, `undecided`

    trials: tuple[CalibrationTrial, ...]

    def count(self, design: str | None = None) -> dict[Grade, int]:
        """Verdicts by grade, of one design or of all."""
        found = [v.grade for trial in self.trials if design in (None, trial.design) for v in trial.verdicts]
        return {grade: found.count(grade) for grade in GRADES}
