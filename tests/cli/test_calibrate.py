"""`calibrate` tells a shell whether a verdict was wrong, whatever else it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from refusalctl.cli.app import app
from refusalctl.errors import BadInput
from refusalctl.records.calibration import CalibrationTrial, Grade, VerdictGrade
from refusalctl.steps import calibrate as step
from refusalctl.steps.calibrate import Trial, TrialRun, read_calibration
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store


def graded(monkeypatch: pytest.MonkeyPatch, *grades: Grade) -> list[Trial]:
    """Make every trial give these grades without running anything; returns the trials that were asked for."""
    asked: list[Trial] = []

    def run(bench: Workbench, trial: Trial) -> TrialRun:
        asked.append(trial)
        rows = tuple(
            VerdictGrade("qaa", "qab", "removal", "transfers", "inconclusive", grade, 1.0, False) for grade in grades
        )
        with bench.store.draft() as out:
            (out / "matrix").write_text(trial.organism.name, encoding="utf-8")
            recipe = {"step": "t", "params": {"name": trial.organism.name, "rank": trial.rank}, "inputs": {}}
            artifact = bench.store.commit(out, "transfer", recipe, {}, {})
        organism = trial.organism
        record = CalibrationTrial(
            organism.design.name, organism.architecture, organism.seed, trial.n, trial.rank, rows,
            {"qaa": 0.99}, {"qaa": 0.01}, artifact.id,
        )  # fmt: skip
        return TrialRun(trial, record, 0.1, artifact)

    monkeypatch.setattr(step, "run_trial", run)
    return asked


def calibrate(store: Path, *args: str) -> Result:
    return CliRunner().invoke(app, ["calibrate", "--quick", "--store", str(store), *args])


@pytest.mark.parametrize(
    ("grades", "code"),
    [
        (("right", "right"), 0),
        (("right", "rightly undecided"), 0),
        (("right", "missed"), 0),
        (("right", "wrong"), 1),
        (("wrong", "missed"), 1),
    ],
)
def test_one_wrong_verdict_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grades: tuple[Grade, ...], code: int
) -> None:
    asked = graded(monkeypatch, *grades)
    result = calibrate(tmp_path, "shared", "plane", "--name", "checked")
    assert result.exit_code == code, result.output
    assert [(t.organism.design.name, t.rank) for t in asked] == [("shared", 1), ("plane", 1), ("plane", 2)]
    kept = Store(tmp_path).resolve("checked")
    assert result.stdout == f"{kept.id}\n"  # the artifact is kept either way
    assert ("do not trust this installation" in result.stderr) == bool(code)
    assert len(read_calibration(kept).trials) == 3
    as_json = calibrate(tmp_path, "shared", "plane", "--json")
    assert as_json.exit_code == code
    assert [row["grade"] for row in json.loads(as_json.stdout)["trials"][0]["verdicts"]] == list(grades)


def test_cells_names_the_wrong_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    graded(monkeypatch, "wrong", "rightly undecided", "missed")
    result = calibrate(tmp_path, "decoy", "--cells")
    assert "WRONG" in result.stderr
    assert "held back" in result.stderr
    assert "MISSED" in result.stderr
    assert "topic 0.01" in result.stderr


def test_a_dry_run_and_an_unknown_design_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = graded(monkeypatch, "wrong")
    planned = calibrate(tmp_path, "plane", "--dry-run", "--json")
    assert planned.exit_code == 0
    assert [(row["n"], row["rank"]) for row in json.loads(planned.stdout)] == [(128, 1), (128, 2)]
    unknown = calibrate(tmp_path, "square")
    assert isinstance(unknown.exception, BadInput)
    assert unknown.exit_code == 1
    assert not asked
