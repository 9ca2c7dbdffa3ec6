"""Scores that leave nothing to choose from stop with the cause; no position and layer stands in for a direction."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusalctl.errors import EmptySelection
from refusalctl.records.selection import ScoreTable
from refusalctl.settings import Machine, Settings
from refusalctl.steps.selection import scores as score_step
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
    table = ScoreTable(
        n_layers=4,
        positions=(-1,),
        suffix_tokens=("a",),
        validation=score_step._validation({"harmful": torch.tensor(harmful), "harmless": torch.tensor(harmless)}, True),
        search="full",
        flat=(),
        unscored=(),
        candidates=(),
        untold=None,
    )
    formats.write_record(tmp_path, table)
    scored = Artifact("scores", "0" * 64, tmp_path, {})
    bench = Workbench(Store(tmp_path / "store"), Machine("none"))
    job = Job({"criterion": "refusal-score"}, {"scores": scored}, tmp_path, tmp_path, bench)
    rule = Settings().selection.resolved_rule()
    with pytest.raises(EmptySelection, match=message):
        score_step._by_score(job, rule, {})


def test_infinity_is_no_limit_through_a_whole_selection(tmp_path: Path) -> None:
    """`max_kl = inf`, `min_induce = -inf` hold through every step; the choice is the best of all."""
    from refusalctl.errors import BadInput
    from refusalctl.steps.selection.scores import chosen_candidate, read_choice, select_direction
    from tests.steps.selection.test_cosmic import organism

    bench, experiment = organism(tmp_path, max_kl=float("inf"), min_induce=float("-inf"), n_train=16, n_val=8)
    found = select_direction(bench.asking(experiment), "qaa")
    table, chosen = read_choice(found), chosen_candidate(found)
    assert (table.rule.max_kl, table.rule.min_induce) == (None, None)  # no test at all
    scored = {(c.pos, c.layer): c.bypass for c in table.candidates if c.bypass is not None}
    assert scored[chosen.pos, chosen.layer] == min(scored.values())
    assert select_direction(bench.asking(experiment), "qaa").id == found.id
    with pytest.raises(BadInput, match="max_kl is nan"):
        experiment.changed(max_kl=float("nan"))
