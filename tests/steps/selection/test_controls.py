"""Control directions: nulls on model organisms, whose truth is known, and the choices behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refusalctl.errors import BadInput, EmptySelection
from refusalctl.settings import Experiment
from refusalctl.stats.candidate_choice import Candidate, CandidateScores, choose
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.steps.selection import controls as control_step
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store


def organism(folder: Path, design: str, **settings: object) -> tuple[Workbench, Experiment]:
    name = f"organism:{design}"
    bench = Workbench(Store(folder), name, batch_size=64)
    langs = ("qaa", "qab", "qac")
    base = Experiment(langs, langs, name, n_train=32, n_val=12, max_new_tokens=16, n_controls=19, layers=(2, 3))
    return bench, replace(base, **settings)  # type: ignore[arg-type]


def test_the_right_direction_beats_every_control_and_another_languages_beats_none(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "separate")
    own = control_step.read(control_step.controls(bench, experiment, "qaa", "qaa", experiment.langs))
    assert own["drop"] > 2
    assert {f: own["families"][f]["p"] for f in ("shuffled", "covariance")} == {"shuffled": 0.05, "covariance": 0.05}
    assert own["p"] == 0.05 == own["smallest_p"]
    assert own["families"]["shuffled"]["abs_cosine"]["max"] < 0.2
    # plain shuffles would have been copies of the direction itself
    assert np.mean(own["selection_of_shuffled"]["plain_cosine"]) > 0.5
    assert own["languages"] == ["qab", "qac"]
    other = control_step.read(control_step.controls(bench, experiment, "qaa", "qab", experiment.langs))
    assert other["drop"] < 0.5
    assert other["p"] == 1.0


def test_cells_of_one_source_share_its_controls_and_nothing_is_computed_twice(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "shared")
    first = control_step.controls(bench, experiment, "qaa", "qaa", experiment.langs)
    second = control_step.controls(bench, experiment, "qaa", "qab", experiment.langs)
    assert first.inputs["directions"] == second.inputs["directions"]
    assert control_step.read(second)["p"] == 0.05
    again = Workbench(bench.store, bench.model_spec, batch_size=64)
    assert control_step.controls(again, experiment, "qaa", "qab", experiment.langs).id == second.id
    assert "model" not in vars(again)
    value = control_step.read(second)
    n, m = value["n_prompts"], sum(f["n"] for f in value["families"].values())
    assert value["prompt_passes"] == value["n_val"] + n * (1 + m)


def test_a_target_that_refuses_nothing_has_no_null(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "ceiling")
    with pytest.raises(EmptySelection):
        control_step.controls(bench, experiment, "qaa", "qac", experiment.langs)


def test_trying_in_order_of_bypass_chooses_what_the_rule_chooses() -> None:
    rng = np.random.default_rng(0)
    rule = PRESETS["arditi"]
    for _ in range(50):
        bypass, induce, kl = rng.normal(size=6), rng.normal(size=6), rng.uniform(0, 0.2, 6)
        table = CandidateScores([Candidate(-1, i) for i in range(6)], bypass[:, None], induce[:, None], kl[:, None])
        found, passed = control_step.pick(6, lambda i: bypass[i], lambda i: induce[i], lambda i: kl[i], rule)  # noqa: B023
        try:
            assert (found, passed) == (choose(table, rule, 10), True)
        except EmptySelection:
            assert (found, passed) == (int(bypass.argmin()), False)


def test_the_search_keeps_the_winner_and_its_bound() -> None:
    candidates = [(-p, layer) for p in (2, 1) for layer in range(20)]
    for winner in candidates:
        kept = control_step.grid(candidates, winner, 16)
        assert winner in kept
        assert len(kept) <= 16
        assert len({layer for _p, layer in kept}) > 6
    assert control_step.grid(candidates, (-1, 3), 0) == candidates


def test_the_number_of_draws_follows_the_family() -> None:
    langs = ("qaa", "qab", "qac")
    assert control_step.n_controls(Experiment(("qaa",), ("qaa",))) == 19
    assert control_step.family_size(Experiment(langs[:2], langs)) == 7
    assert control_step.n_controls(Experiment(langs[:2], langs)) == 139
    with pytest.raises(BadInput, match="at least 19"):
        Experiment(n_controls=18).check()
