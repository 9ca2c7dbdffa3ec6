"""Benchmarks run, and give no figure for results that disagree."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import selection_speed

    return selection_speed


def test_searches_are_timed_against_the_published_way(speed: ModuleType, tmp_path: Path) -> None:
    speed.main(["--tiny", "--rounds", "1", "--n", "4", "--sample", "0", "--out", str(tmp_path / "speed.json")])
    value = json.loads((tmp_path / "speed.json").read_text())
    assert value["agreement"]["largest_difference"] < 1e-3
    assert value["agreement"]["choice"] == value["agreement"]["choice_of_sample"]
    assert set(value["seconds"]) == {"reference", "bare", *speed.SEARCHES}
    assert value["scores_taken"]["prune"] < value["scores_taken"]["full"] == 3 * value["candidates"]


def test_results_that_disagree_get_no_figure(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "AGREE", 1e-12)
    with pytest.raises(SystemExit, match="no ratio is given"):
        speed.main(["--tiny", "--n", "4"])
