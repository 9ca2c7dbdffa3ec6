"""Control directions: nulls on model organisms, whose truth is known, and the choices behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refusalctl.errors import BadInput, EmptySelection
from refusalctl.records.selection import Candidate
from refusalctl.settings import Machine, Settings
from refusalctl.stats.candidate_choice import CandidateScores, choose
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.steps.selection.control_effects import compare_controls, read_controls
from refusalctl.steps.selection.controls import n_controls, pick_shuffled, spread
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store


def organism(folder: Path, design: str, **settings: object) -> tuple[Workbench, Settings]:
    name = f"organism:{design}"
    bench = Workbench(Store(folder), Machine(name, batch_size=64))
    langs = ("qaa", "qab", "qac")
    base = Settings.of(
        sources=langs, targets=langs, data=name, n_train=32, n_val=12, max_new_tokens=16, n_controls=19, layers=(2, 3)
    )
    return bench, base.changed(**settings)  # type: ignore[arg-type]


def test_the_right_direction_beats_every_control_and_another_languages_beats_none(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "separate")
    own = read_controls(compare_controls(bench.asking(experiment), "qaa", "qaa"))
    assert own.drop > 2
    assert {f: own.families[f].p for f in ("shuffled", "covariance")} == {"shuffled": 0.05, "covariance": 0.05}
    assert own.p == 0.05 == own.smallest_p
    assert own.families["shuffled"].abs_cosine.max < 0.2
    # plain shuffles would have been copies of the direction itself
    assert np.mean(own.selection_of_shuffled.plain_cosine) > 0.5
    assert own.languages == ("qab", "qac")
    other = read_controls(compare_controls(bench.asking(experiment), "qaa", "qab"))
    assert other.drop < 0.5
    assert other.p == 1.0
    assert (own.p_reverse, own.rank) == (1.0, 1)
    assert own.added is not None
    assert own.added.coeff == 1.0
    assert own.added.rise > 2
    assert {name: (each.n, each.p, each.p_reverse) for name, each in own.added.families.items()} == {
        "shuffled": (19, 0.05, 1.0), "covariance": (19, 0.05, 1.0)
    }  # fmt: skip
    assert other.added is not None
    assert other.added.rise < 0.5
    assert other.added.families["covariance"].p > 0.05


def test_cells_of_one_source_share_its_controls_and_nothing_is_computed_twice(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "shared")
    first = compare_controls(bench.asking(experiment), "qaa", "qaa")
    second = compare_controls(bench.asking(experiment), "qaa", "qab")
    assert first.inputs["directions"] == second.inputs["directions"]
    assert read_controls(second).p == 0.05
    again = Workbench(bench.store, Machine(bench.machine.model, batch_size=64))
    assert compare_controls(again.asking(experiment), "qaa", "qab").id == second.id
    assert not again.models
    value = read_controls(second)
    n, m = value.n_prompts, sum(f.n for f in value.families.values())
    assert value.added is not None
    k, added = value.added.n_prompts, sum(f.n for f in value.added.families.values())
    assert value.prompt_passes == value.n_val + n * (1 + m) + value.n_val + k * (1 + added)
    without = read_controls(compare_controls(bench.asking(experiment.changed(induce=False)), "qaa", "qab"))
    assert (without.added, without.not_added, without.drop) == (None, None, value.drop)


def test_a_target_that_refuses_nothing_has_no_null(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "ceiling")
    with pytest.raises(EmptySelection):
        compare_controls(bench.asking(experiment), "qaa", "qac")


def test_several_directions_at_once_are_compared_with_subspaces_of_their_rank(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "plane", rank=2, control_candidates=1, induce=False)
    found = read_controls(
        compare_controls(bench.asking(experiment.changed(sources="qaa", targets="qab")), "qaa", "qab")
    )
    assert (found.rank, found.p_families, set(found.families)) == (2, ("subspaces",), {"subspaces"})
    assert found.families["subspaces"].n == 19
    assert found.drop > 2
    assert found.p == 0.05


def test_trying_in_order_of_bypass_chooses_what_the_rule_chooses() -> None:
    rng = np.random.default_rng(0)
    rule = PRESETS["arditi"]
    for _ in range(50):
        bypass, induce, kl = rng.normal(size=6), rng.normal(size=6), rng.uniform(0, 0.2, 6)
        table = CandidateScores([Candidate(-1, i) for i in range(6)], bypass[:, None], induce[:, None], kl[:, None])
        found, passed = pick_shuffled(6, lambda i: bypass[i], lambda i: induce[i], lambda i: kl[i], rule)  # noqa: B023
        try:
            assert (found, passed) == (choose(table, rule, 10), True)
        except EmptySelection:
            assert (found, passed) == (int(bypass.argmin()), False)


def test_the_search_keeps_the_winner_and_its_bound() -> None:
    candidates = [(-p, layer) for p in (2, 1) for layer in range(20)]
    for winner in candidates:
        kept = spread(candidates, winner, 16)
        assert winner in kept
        assert len(kept) <= 16
        assert len({layer for _p, layer in kept}) > 6
    assert spread(candidates, (-1, 3), 0) == candidates


def test_the_number_of_draws_does_not_grow_with_the_cells() -> None:
    langs = ("qaa", "qab", "qac")
    assert n_controls(Settings.of(sources=("qaa",), targets=("qaa",))) == 39
    assert n_controls(Settings.of(sources=langs[:2], targets=langs)) == 39
    assert n_controls(Settings.of(sources=langs[:2], targets=langs, n_controls=19)) == 19
    with pytest.raises(BadInput, match="at least 19"):
        Settings.of(n_controls=18)
