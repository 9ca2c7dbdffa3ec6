"""Benchmarks run, and give no figure for results that disagree."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
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
    assert value["agreement"]["same_choice"]
    assert set(value["seconds"]) == {"reference", "bare", *speed.SEARCHES}
    assert value["scores_taken"]["prune"] < value["scores_taken"]["full"] == 3 * value["candidates"]


def test_results_that_disagree_get_no_figure(speed: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no ratio is given"):
        speed.main(["--tiny", "--n", "4", "--agree", "1e-12"])


def test_peers_are_compared_on_exported_values(speed: ModuleType, tmp_path: Path) -> None:
    import peers_speed

    peers_speed.main(["export", str(tmp_path), "--model", "organism:shared", "--n", "4", "--batch", "2"])
    value = peers_speed.worker(peers_speed.OWN, tmp_path, 1)
    assert value["difference"] < 1e-6
    assert [len(each) for each in value["seconds"].values()] == [1, 1]
    with np.load(tmp_path / "inputs.npz") as given:
        inputs = dict(given)
    inputs["resid_pre"][0, 0, 1] *= 1.01
    np.savez(tmp_path / "inputs.npz", **inputs)
    assert "seconds" not in peers_speed.worker(peers_speed.OWN, tmp_path, 1)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"difference": 0.5}, "no figure is given"),
        ({"difference": 0.0, "seconds": {"bare": [2], "collect": [4]}}, None),
    ],
)
def test_a_peer_that_disagrees_gets_no_figure(
    speed: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: dict[str, object], expected: str | None
) -> None:
    import peers_speed

    monkeypatch.setattr(peers_speed, "_run", lambda _command: json.dumps(said))
    value = peers_speed.measured(peers_speed.OWN, tmp_path, 1)
    assert ("speed" in value) == (expected is None)
    assert (expected or "") in value.get("failed", "")
