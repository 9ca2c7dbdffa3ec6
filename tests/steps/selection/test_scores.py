"""Scores that leave nothing to choose from stop with the cause; no position and layer stands in for a direction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from refusalctl.errors import EmptySelection
from refusalctl.settings import Machine, Settings
from refusalctl.steps.selection import scores as score_step
from refusalctl.steps.selection.scores import SCORES_FILE
from refusalctl.steps.step import Job, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store


@pytest.mark.parametrize(
    ("harmful", "harmless", "message"),
    [
        ([-3.1, -4.0], [-5.0, 1.0], r"none of 2 harmful validation prompts .* score > 0 \(the best has -3\.10\)"),
        ([1.0, 2.0], [0.5, 0.25, 3.0], r"none of 3 harmless validation prompts .* score < 0 \(the best has 0\.25\)"),
    ],
)
def test_a_class_that_the_filter_emptied_is_named_with_its_best_score(
    tmp_path: Path, harmful: list[float], harmless: list[float], message: str
) -> None:
    """The published failure: no harmful prompt passed, every score was NaN, and position 0 of layer 0 was taken."""
    baseline = {"harmful": torch.tensor(harmful), "harmless": torch.tensor(harmless)}
    table: dict[str, Any] = {
        "n_layers": 4,
        "baseline": {kind: values.tolist() for kind, values in baseline.items()},
        "kept": score_step._keep(baseline, True),
        "candidates": [],
    }
    formats.write_json(tmp_path / SCORES_FILE, "scores", table)
    scored = Artifact("scores", "0" * 64, tmp_path, {})
    bench = Workbench(Store(tmp_path / "store"), Machine("none"))
    job = Job({"criterion": "refusal-score"}, {"scores": scored}, tmp_path, tmp_path, bench)
    rule = Settings().selection.resolved_rule()
    with pytest.raises(EmptySelection, match=message):
        score_step._by_score(job, rule, {})
