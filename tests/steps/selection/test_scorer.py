"""Scores of directions whose passes are repeated."""

from __future__ import annotations

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.hooks import Checks
from refusalctl.model.savings import cuda_graphs, sweeps
from refusalctl.steps.selection.scorer import Criteria, Scorer
from tests import exactness
from tests.families import direction
from tests.model.savings.test_sweeps import SHORT, Hooked, prompts


def test_scores_of_a_repeated_ablation_that_left_something_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "can_record", lambda _model: True)
    monkeypatch.setattr(cuda_graphs, "recorded", lambda work, _checks: work)
    monkeypatch.setattr(cuda_graphs, "CapturedPass", Hooked)
    criteria = Criteria(Scorer(exactness.chat_model("Llama"), SHORT, 8), *prompts().values())
    plain = Criteria(Scorer(exactness.chat_model("Llama"), SHORT, 8), *prompts().values(), fast=False)
    for seed in range(3):
        found, expected = (each.all(direction(seed), 1).scores for each in (criteria, plain))
        assert found == {name: pytest.approx(values, abs=1e-4) for name, values in expected.items()}
        criteria.kl(direction(seed), 1)
    assert len([each for each in criteria.sweeps._repeated.values() if each is not None]) == 2
    monkeypatch.setattr(Checks, "max_projection", property(lambda _self: 0.5))
    with pytest.raises(ModelError, match=r"keeps a share of 0\.5"):
        criteria.kl(direction(3), 1)
