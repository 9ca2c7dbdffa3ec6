"""Scores of directions whose passes are repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.errors import ModelError
from refusalctl.model.hooks import Checks
from refusalctl.model.savings import cuda_graphs, sweeps
from refusalctl.progress import Silent
from refusalctl.records.selection import ByClass, Candidate
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.selection.scorer import Criteria, Ledger, Scorer
from tests import exactness
from tests.families import direction
from tests.model.savings.test_sweeps import SHORT, Hooked, prompts


def test_a_kl_that_is_above_a_limit_is_told_by_as_few_prompts_as_show_it(tmp_path: Path) -> None:
    """And what one look did not tell is measured on the prompts that are left, here or after an interruption."""
    criteria = Criteria(Scorer(exactness.chat_model("Llama"), SHORT, 8), *prompts().values(), partly=True)
    at = Candidate(-1, 1)

    def opened() -> Ledger:
        return Ledger(criteria, {at: direction(1)}, FinishedRows(tmp_path, "rows.jsonl"), Silent.advance)

    each = criteria.kl(direction(1), 1)["kl"]
    (first, *_), n = (part.indices for part in criteria.sweeps.parts if part.kind == "harmless"), len(each)
    seen = sum(each[i] for i in first)
    assert len(first) < n
    assert 0 < seen < sum(each)
    ledger, before = opened(), criteria.passes
    assert not ledger.exceeds(at, 1.001 * seen / n, at_a_look=True)  # more than this mean over all is not seen yet
    assert ledger.row(at, ByClass((), tuple(range(n)))).kl is None
    assert ledger.least_kl() == {"-1,1": pytest.approx(seen / n, abs=1e-6)}
    assert ledger.exceeds(at, 0.999 * seen / n, at_a_look=True)
    assert ledger.exceeds(at, 0.999 * seen / n)
    assert criteria.passes - before == len(first)  # what was seen already is not run again
    again = opened()
    assert again.mean("kl", at) == pytest.approx(sum(each) / n, abs=1e-6)
    assert criteria.passes - before == n
    assert again.exceeds(at, 0.999 * sum(each) / n)
    assert not again.exceeds(at, 1.001 * sum(each) / n)
    assert again.least_kl() == {}


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
    with pytest.raises(ModelError, match=r"keeps a share of 0\.5"):
        criteria.kl_until(direction(3), 1, {}, lambda _found: True)
