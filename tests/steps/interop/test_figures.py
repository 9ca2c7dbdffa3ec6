"""Numbers for trackers of experiments: measured ones alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.errors import BadInput
from refusalctl.interop.tracking import address, log
from refusalctl.steps.interop.figures import figures_of
from tests.steps.interop.world import answers_store


def test_labels_give_counts_and_rates_of_what_was_labelled(tmp_path: Path) -> None:
    _store, (completions, labels) = answers_store(tmp_path / "store")
    found = figures_of(labels)
    assert found.metrics["n"] == 3
    assert found.metrics["off-language.count"] == 1  # compliance in English to a Belarusian prompt is none
    assert found.metrics["refusal.rate"] == pytest.approx(1 / 3)
    assert "unparsed.rate" not in found.metrics
    with pytest.raises(BadInput, match="expected labels, selection, transfer"):
        figures_of(completions)


def test_mlflow_finds_the_numbers_again(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    _store, artifacts = answers_store(tmp_path / "store")
    figures = figures_of(artifacts[1])
    run = log("mlflow", figures, str(tmp_path / "runs"), "trial")
    client = mlflow.MlflowClient(tracking_uri=address(str(tmp_path / "runs")))
    assert client.get_run(run).data.metrics == figures.metrics
