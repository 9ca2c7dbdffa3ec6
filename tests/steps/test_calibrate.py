"""Calibration grades by the planted truth, plans every organism, and does not pass a pipeline that is broken."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from refusalctl.model import hooks
from refusalctl.model.hooks import Checks
from refusalctl.organisms.design import ARCHITECTURES
from refusalctl.organisms.designs import DESIGNS, parse
from refusalctl.organisms.hard_designs import RMS_ONLY
from refusalctl.organisms.truth import DECIDED, Truth
from refusalctl.records.calibration import Grade
from refusalctl.records.cell import Condition
from refusalctl.records.estimates import Interval
from refusalctl.records.transfer import OutcomeCounts, TransferCell
from refusalctl.records.verdict import Verdict, VerdictValue
from refusalctl.settings import Machine, Settings
from refusalctl.steps import transfer
from refusalctl.steps.calibrate import BASE, SIZES, Trial, grade, grade_all, read_calibration, run_calibration, trials
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import Selections, select_all
from refusalctl.store.store import Store


@pytest.mark.parametrize(
    ("truth", "measured", "expected"),
    [
        (Truth("transfers", 0.9), "transfers", "right"),
        (Truth("uninformative", 0.0), "uninformative", "right"),
        (Truth("no direction", None), "no direction", "right"),
        (Truth("transfers", 0.12, near_margin=True), "transfers", "right"),
        (Truth("transfers", 0.12, near_margin=True, enough=128), "inconclusive", "rightly undecided"),
        (Truth("transfers", 0.12, near_margin=True, enough=128), "uninformative", "missed"),
        (Truth("transfers", 0.12, near_margin=True, enough=900), "uninformative", "rightly undecided"),
        (Truth("transfers", 0.12, near_margin=True), "does not transfer", "wrong"),
        *(
            (Truth(verdict, 0.5, enough=n), held, "missed" if n == 128 else "rightly undecided")
            for verdict in DECIDED
            for held in ("inconclusive", "uninformative")
            for n in (128, 129, None)
        ),
        *((Truth(a, 0.5), b, "wrong") for a in DECIDED for b in (*DECIDED, "no direction") if a != b),
        (Truth("inconclusive", 0.0), "does not transfer", "wrong"),
        (Truth("inconclusive", 0.0), "uninformative", "wrong"),
        (Truth("uninformative", 0.0), "inconclusive", "wrong"),
        (Truth("uninformative", 0.0), "transfers", "wrong"),
        (Truth("no direction", None), "transfers", "wrong"),
        (Truth("no direction", None), "inconclusive", "wrong"),
    ],
)
def test_a_verdict_held_back_is_missed_where_prompts_are_enough_and_any_other_than_the_truth_is_wrong(
    truth: Truth, measured: str, expected: str
) -> None:
    assert grade(truth, measured, 128) == expected


# --- what is run ------------------------------------------------------------------------------------------


def test_every_design_runs_in_each_architecture_at_each_size() -> None:
    todo = trials(list(DESIGNS), quick=False)
    counts = Counter((t.organism.design.name, t.organism.architecture, t.n) for t in todo)
    assert len(counts) == sum(len(design.architectures) for design in DESIGNS.values()) * len(SIZES)
    ranks = {t.organism.design.name: [] for t in todo}
    for t in todo:
        ranks[t.organism.design.name].append(t.rank)
        assert t.organism.seed == ARCHITECTURES.index(t.organism.architecture)
    assert {name for name, each in ranks.items() if set(each) == {1, 2}} == {"plane"}
    assert len(todo) == len(counts) + len(ARCHITECTURES) * len(SIZES)  # plane runs twice
    assert {t.organism.architecture for t in todo if t.organism.design.name == "norm-lean"} == set(RMS_ONLY)


def test_quick_is_one_architecture_and_one_size() -> None:
    todo = trials(["shared", "plane"], quick=True)
    assert [(t.organism.name, t.n, t.rank) for t in todo] == [
        ("organism:shared:llama:0", 128, 1), ("organism:plane:llama:0", 128, 1), ("organism:plane:llama:0", 128, 2),
    ]  # fmt: skip


def test_an_experiment_asks_of_its_own_organism() -> None:
    asked = Trial(parse("organism:separate"), 48, rank=2).settings(BASE)
    assert (asked.sources, asked.targets) == (("qaa", "qab"), ("qaa", "qab", "qac"))
    assert (asked.prompts.data, asked.prompts.n_test, asked.verdict.rank) == ("organism:separate:llama:0", 48, 2)
    assert asked.controls.n_controls is None  # as many as anybody gets
    assert asked.verdict.margin == BASE.verdict.margin == Settings().verdict.margin


# --- from a matrix to grades -------------------------------------------------------------------------------


def verdict(value: VerdictValue) -> Verdict:
    return Verdict(value, "", 0.0, Interval(0.0, 0.0), Interval(0.0, 0.0), 1.0, 48)


def cell(source: str | None, target: str, *values: VerdictValue | None) -> TransferCell:
    condition: Condition = "baseline" if source is None else "native" if source == target else "transferred"
    removal, induction = (value and verdict(value) for value in values or (None, None))
    return TransferCell(
        source, target, condition, prompts="harmful", n=48, counts=OutcomeCounts(refusal=48), refusal=None,
        compliance=None, degenerate=None, unusable=None, completions="", labels="", removal=removal,
        induction=induction,
    )  # fmt: skip


def test_each_pair_is_graded_for_both_questions_and_a_missing_cell_is_no_direction() -> None:
    # qab's direction acts in qab alone, qaa's in both
    cells = [
        cell(None, "qaa"), cell("qaa", "qaa", "transfers", "transfers"),
        cell("qab", "qaa", "transfers", None), cell("qaa", "qab", "inconclusive", "transfers"),
    ]  # fmt: skip
    graded = grade_all(Trial(parse("organism:asymmetric"), 48), cells, 0.1)
    found = {(g.source, g.target, g.question): (g.truth, g.measured, g.grade) for g in graded}
    assert len(graded) == len(found) == 8
    assert found["qaa", "qaa", "removal"] == ("transfers", "transfers", "right")
    assert found["qab", "qaa", "removal"] == ("does not transfer", "transfers", "wrong")
    assert found["qaa", "qab", "removal"] == ("transfers", "inconclusive", "missed")
    assert found["qab", "qab", "removal"] == ("transfers", "no direction", "wrong")
    assert found["qab", "qaa", "induction"][1:] == ("no direction", "wrong")
    assert next(g.effect for g in graded if (g.source, g.target) == ("qab", "qaa")) == 0.0


def test_addition_has_no_rank() -> None:
    graded = grade_all(Trial(parse("organism:plane"), 48, rank=2), [], 0.1)
    assert {(g.question, g.truth, g.grade) for g in graded} == {("removal", "transfers", "wrong")}


# --- a pipeline that is broken on purpose ------------------------------------------------------------------

TRIAL = Trial(parse("organism:asymmetric"), 32)
# without addition, and with few places to search, for speed
SMALL = BASE.changed(n_train=24, n_val=8, n_controls=19, control_prompts=4, control_candidates=2, induce=False)


def removal_of(store: Path) -> dict[tuple[str, str], Grade]:
    """Grades of a small calibration."""
    bench = Workbench(Store(store), Machine(TRIAL.organism.name, "cpu", "float32", batch_size=64))
    found = run_calibration(bench, [TRIAL], SMALL)
    (kept,) = read_calibration(found.artifact).trials
    assert kept == found.trials[0].record
    return {(v.source, v.target): v.grade for v in kept.verdicts if v.question == "removal"}


def test_swapped_directions_are_graded_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = removal_of(tmp_path)
    assert honest["qaa", "qaa"] == honest["qab", "qab"] == honest["qaa", "qab"] == "right"
    assert "wrong" not in honest.values()
    select = select_all

    def swapped(bench: Workbench) -> Selections:
        found = select(bench).found
        return Selections({"qaa": found["qab"], "qab": found["qaa"]}, {})

    monkeypatch.setattr(transfer, "select_all", swapped)
    broken = removal_of(tmp_path)
    assert broken["qab", "qaa"] == "wrong"
    assert broken["qaa", "qaa"] != "right"


def test_an_ablation_that_does_nothing_is_never_graded_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "project", lambda x, *_: x)
    monkeypatch.setattr(Checks, "verify", lambda *_: None)  # the run-time check would stop it
    grades = removal_of(tmp_path)
    assert len(grades) == 4
    assert "right" not in grades.values()
