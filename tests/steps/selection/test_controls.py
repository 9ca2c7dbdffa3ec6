"""Control directions on organisms, whose truth is known: drawn once, matched in damage, compared on test prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.errors import BadInput, EmptySelection
from refusalctl.settings import Machine, Settings
from refusalctl.stats import controls as stats
from refusalctl.steps.selection import control_effects
from refusalctl.steps.selection.control_effects import compare_controls, read_controls
from refusalctl.steps.selection.controls import n_controls
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store


def organism(folder: Path, design: str, **settings: object) -> tuple[Workbench, Settings]:
    name = f"organism:{design}"
    bench = Workbench(Store(folder), Machine(name, batch_size=64))
    langs = ("qaa", "qab", "qac")
    base = Settings.of(
        sources=langs, targets=langs, data=name, n_train=32, n_val=12, n_test=24, max_new_tokens=16, n_controls=19,
        control_prompts=8, layers=(2, 3),
    )  # fmt: skip
    return bench, base.changed(**settings)  # type: ignore[arg-type]


def test_the_right_direction_beats_every_control_and_another_languages_beats_none(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "separate")
    own = read_controls(compare_controls(bench.asking(experiment), "qaa", "qaa"))
    assert own.drop > 2
    assert (own.p, own.smallest_p, own.p_reverse, own.rank) == (0.05, 0.05, 1.0, 1)
    assert (len(own.draws), own.n_prompts, own.n_harmless) == (19, 8, 8)
    assert all(each.kl <= own.kl_limit for each in own.draws)
    assert own.added is not None
    assert (own.added.coeff, own.added.p, own.added.p_reverse, len(own.added.rises)) == (1.0, 0.05, 1.0, 19)
    assert own.added.rise > 2
    other = read_controls(compare_controls(bench.asking(experiment), "qaa", "qab"))
    assert other.drop < 0.5
    assert other.p == 1.0
    assert other.added is not None
    assert other.added.rise < 0.5
    assert other.added.p > 0.05


def test_cells_of_one_source_share_its_controls_and_nothing_is_computed_twice(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "shared")
    first = compare_controls(bench.asking(experiment), "qaa", "qaa")
    second = compare_controls(bench.asking(experiment), "qaa", "qab")
    assert first.inputs["directions"] == second.inputs["directions"]
    assert read_controls(second).p == 0.05
    again = Workbench(bench.store, Machine(bench.machine.model, batch_size=64))
    assert compare_controls(again.asking(experiment), "qaa", "qab").id == second.id
    assert not again.models
    without = read_controls(compare_controls(bench.asking(experiment.changed(induce=False)), "qaa", "qab"))
    assert (without.added, without.not_added, without.drop) == (None, None, read_controls(second).drop)


def test_what_is_compared_was_never_chosen_on_and_costs_what_is_counted(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "shared")
    found = compare_controls(bench.asking(experiment), "qaa", "qab")
    asked = {name: bench.store.open("prompts", found.inputs[name]).about for name in ("test_harmful", "test_harmless")}
    assert {(a["split"], a["lang"]) for a in asked.values()} == {("test", "qab")}
    assert "val_harmful" not in found.inputs
    value, n = read_controls(found), 8
    partial = 19 - value.n_whole
    # looked at; baseline, the real one and each draw for KL and drop; bisection; baseline, the real one and 19 added
    assert value.prompt_passes == value.n_scored + n + 20 * 2 * n + partial * stats.HALVINGS * n + 21 * n


def test_a_draw_that_damages_more_is_ablated_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, experiment = organism(tmp_path, "shared", induce=False)
    plain = read_controls(compare_controls(bench.asking(experiment), "qaa", "qab"))
    worst = sorted(each.kl for each in plain.draws)[-1]
    assert worst > 0
    monkeypatch.setattr(stats, "NO_DAMAGE", worst / 3)
    held = organism(tmp_path / "held", "shared", induce=False)[0]
    found = read_controls(compare_controls(held.asking(experiment), "qaa", "qab"))
    assert found.kl_limit == worst / 3 > found.kl
    partial = [(a, b) for a, b in zip(plain.draws, found.draws, strict=True) if b.strength < 1]
    assert partial
    assert all(b.kl <= found.kl_limit < a.kl for a, b in partial)
    assert found.n_whole == 19 - len(partial)
    assert f"{len(partial)} by partial ablation" in found.matching
    assert "19 draws, matched to KL" in found.matching
    assert found.p == 0.05


def test_where_damage_cannot_be_matched_there_is_no_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, experiment = organism(tmp_path, "shared", induce=False)
    monkeypatch.setattr(control_effects._Bench, "kl", lambda _self, _asked: 0.5)
    monkeypatch.setattr(stats, "damage_limit", lambda _kl: 0.1)
    with pytest.raises(EmptySelection, match=r"could not be matched in damage: one makes a KL of more than 0\.1 nats"):
        compare_controls(bench.asking(experiment), "qaa", "qab")


def test_without_harmless_test_prompts_damage_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, experiment = organism(tmp_path, "shared")
    plain = control_effects.sets.usable
    monkeypatch.setattr(
        control_effects.sets,
        "usable",
        lambda data, lang, kind, split: [] if (kind, split) == ("harmless", "test") else plain(data, lang, kind, split),
    )
    with pytest.raises(EmptySelection, match="no harmless test prompts"):
        compare_controls(bench.asking(experiment), "qaa", "qab")


def test_a_target_that_refuses_nothing_has_no_null(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "ceiling")
    with pytest.raises(EmptySelection):
        compare_controls(bench.asking(experiment), "qaa", "qac")


def test_several_directions_at_once_are_compared_with_subspaces_of_their_rank(tmp_path: Path) -> None:
    bench, experiment = organism(tmp_path, "plane", rank=2, induce=False)
    found = read_controls(
        compare_controls(bench.asking(experiment.changed(sources="qaa", targets="qab")), "qaa", "qab")
    )
    assert (found.rank, len(found.draws), found.p) == (2, 19, 0.05)
    assert found.drop > 2


def test_the_number_of_draws_does_not_grow_with_the_cells() -> None:
    langs = ("qaa", "qab", "qac")
    assert n_controls(Settings.of(sources=("qaa",), targets=("qaa",))) == 39
    assert n_controls(Settings.of(sources=langs[:2], targets=langs)) == 39
    assert n_controls(Settings.of(sources=langs[:2], targets=langs, n_controls=19)) == 19
    with pytest.raises(BadInput, match=r"expected at least 19: the smallest p of 18 draws is 0\.053"):
        Settings.of(n_controls=18)
    with pytest.raises(BadInput, match="control_completions is 20"):
        Settings.of(n_controls=19, control_completions=20)
