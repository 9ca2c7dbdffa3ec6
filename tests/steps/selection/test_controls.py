"""Control directions on organisms, whose truth is known: drawn once, matched in damage, compared on test prompts."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import torch

from refusalctl.errors import BadInput, EmptySelection
from refusalctl.model.hooks import Intervention
from refusalctl.records.controls import Controls
from refusalctl.records.rows import Prompt
from refusalctl.settings import Machine, Settings
from refusalctl.stats import controls as stats
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.selection import control_effects
from refusalctl.steps.selection.control_effects import compare_controls, read_controls
from refusalctl.steps.selection.control_search import pick
from refusalctl.steps.selection.controls import draw_control_directions, n_controls
from refusalctl.steps.selection.scores import select_direction
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

pytestmark = pytest.mark.xdist_group("controls")  # one worker makes what these tests share


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a direction of `separate` in qaa, and no controls."""
    folder = tmp_path_factory.mktemp("selected")
    bench, experiment = organism(folder, "separate")
    select_direction(bench.asking(experiment), "qaa")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, selected: Path) -> Path:
    """A store that tests share, so that each organism's direction is selected once."""
    return Path(shutil.copytree(selected, tmp_path_factory.mktemp("controls"), dirs_exist_ok=True))


def organism(folder: Path, design: str, **settings: object) -> tuple[Workbench, Settings]:
    name = f"organism:{design}"
    bench = Workbench(Store(folder), Machine(name, batch_size=64))
    langs = ("qaa", "qab", "qac")
    base = Settings.of(
        sources=langs, targets=langs, data=name, n_train=32, n_val=12, n_test=24, max_new_tokens=16, n_controls=19,
        control_prompts=8, layers=(2, 3),
    )  # fmt: skip
    return bench, base.changed(**settings)  # type: ignore[arg-type]


def test_the_right_direction_beats_every_control_and_another_languages_beats_none(home: Path) -> None:
    bench, experiment = organism(home, "separate")
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


def test_cells_of_one_source_share_its_controls_and_nothing_is_computed_twice(home: Path) -> None:
    bench, experiment = organism(home, "shared")
    first = compare_controls(bench.asking(experiment), "qaa", "qaa")
    second = compare_controls(bench.asking(experiment), "qaa", "qab")
    assert first.inputs["directions"] == second.inputs["directions"]
    asked = [bench.store.open("prompts", second.inputs[f"test_{kind}"]).about for kind in ("harmful", "harmless")]
    assert {(each["split"], each["lang"]) for each in asked} == {("test", "qab")}  # what is compared chose nothing
    assert not any(name.startswith("val") for name in second.inputs)
    assert read_controls(second).p == 0.05
    again = Workbench(bench.store, Machine(bench.machine.model, batch_size=64))
    assert compare_controls(again.asking(experiment), "qaa", "qab").id == second.id
    assert not again.models
    n, value = 8, read_controls(second)
    assert value.n_whole == 19
    # looked at; KL: baseline, real, draws; drop: real, draws; added: real, draws
    assert value.prompt_passes == value.n_scored + n + 20 * 2 * n + 20 * n
    without = read_controls(compare_controls(bench.asking(experiment.changed(induce=False)), "qaa", "qab"))
    assert (without.added, without.drop) == (None, read_controls(second).drop)


def test_a_draw_is_searched_as_the_direction_was(home: Path) -> None:
    """Over the places of its candidates, on the source's validation prompts; with one place there is nothing to run."""
    bench, experiment = organism(home, "separate")
    drawn = draw_control_directions(bench.asking(experiment), "qaa")
    asked = [bench.store.open("prompts", drawn.inputs[f"val_{kind}"]).about for kind in ("harmful", "harmless")]
    assert {(each["split"], each["lang"]) for each in asked} == {("val", "qaa")}
    vectors, header = formats.read_vectors(drawn.path / formats.VECTOR_FILES[drawn.kind], drawn.kind)
    assert header["searched"] == header["candidates"] > 2
    places = [tuple(place) for place in header["places_within_class"]]
    assert len(set(places)) > 1
    assert header["prompt_passes"] >= 19 * header["searched"] * 8
    for i, at in enumerate(places):  # each is the draw of its own place
        torch.testing.assert_close(vectors["within_class"][i], drawn_at(bench, drawn, *at)[i])


def test_places_that_look_best_to_first_order_are_scored_and_the_choice_is_mostly_that_of_all(home: Path) -> None:
    bench, experiment = organism(home, "separate")
    some = draw_control_directions(bench.asking(experiment.changed(control_candidates=2)), "qaa")
    every = draw_control_directions(bench.asking(experiment), "qaa")
    headers = [formats.read_vectors(a.path / formats.VECTOR_FILES[a.kind], a.kind)[1] for a in (some, every)]
    n_places = headers[1]["searched"]
    assert (headers[0]["searched"], headers[0]["candidates"]) == (2, n_places)
    assert headers[0]["prompt_passes"] < headers[1]["prompt_passes"]
    same = [a == b for a, b in zip(*(h["places_within_class"] for h in headers), strict=True)]
    assert sum(same) >= 0.7 * len(same)  # 2 places of n chosen blindly hold the best one in 2 of n draws


def drawn_at(bench: Workbench, drawn: Artifact, pos: int, layer: int) -> torch.Tensor:
    """All draws at one place, [n, d_model], from the activations that they were made of."""
    rows = []
    for kind in ("harmful", "harmless"):
        held = bench.store.open("activations", drawn.inputs[kind])
        with formats.open_activations(held.path / "activations.h5") as (data, header):
            rows.append(torch.from_numpy(data[:, header["positions"].index(pos), layer]))
    selection = bench.store.open("selection", drawn.inputs["selection"])
    chosen = formats.read_vectors(selection.path / formats.VECTOR_FILES["selection"], "selection")[0]["direction"]
    held = bench.store.open("directions", drawn.inputs["directions"])
    tensors, header = formats.read_vectors(held.path / formats.VECTOR_FILES["directions"], "directions")
    real = tensors["candidates"][header["positions"].index(pos), layer]
    weights = stats.coefficients(19, sum(map(len, rows)), torch.Generator().manual_seed(0))
    return stats.within_class(stats.deviations(*rows, torch.stack([chosen, real])), float(real.norm()), weights)


@pytest.mark.parametrize(("file", "at"), [("places-within_class.jsonl", 5), ("draws.jsonl", 7), ("rises.jsonl", 3)])
def test_what_was_interrupted_goes_on_to_the_same_artifact(
    home: Path, selected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, at: int
) -> None:
    shutil.copytree(selected, tmp_path, dirs_exist_ok=True)
    whole, experiment = organism(home, "separate")
    expected = compare_controls(whole.asking(experiment), "qaa", "qaa")
    add = FinishedRows.add

    def stopped(rows: FinishedRows, *new: dict[str, object]) -> None:
        if rows._file.name == file and len(rows) == at:
            raise KeyboardInterrupt
        add(rows, *new)

    broken = organism(tmp_path, "separate")[0]
    with monkeypatch.context() as patch:
        patch.setattr(FinishedRows, "add", stopped)
        with pytest.raises(KeyboardInterrupt):
            compare_controls(broken.asking(experiment), "qaa", "qaa")
    assert [path.name for path in (tmp_path / "partial").rglob("*.jsonl") if path.stat().st_size].count(file) == 1
    assert compare_controls(organism(tmp_path, "separate")[0].asking(experiment), "qaa", "qaa").id == expected.id


def test_draws_are_added_at_the_layer_that_they_were_read_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, experiment = organism(home, "separate", control_prompts=5)
    seen: list[int] = []
    plainly = control_effects._Bench.harmless_scores

    def noted(self: object, asked: Intervention) -> list[float]:
        seen.append(-1 if asked.layer is None else asked.layer)
        return plainly(self, asked)  # type: ignore[arg-type]

    monkeypatch.setattr(control_effects._Bench, "harmless_scores", noted)
    found = compare_controls(bench.asking(experiment), "qaa", "qaa")
    drawn = bench.store.open("control_directions", found.inputs["directions"])
    _vectors, header = formats.read_vectors(drawn.path / formats.VECTOR_FILES[drawn.kind], drawn.kind)
    assert seen == [header["layer"], *(layer for _pos, layer in header["places_within_class"])]


def test_the_place_of_a_draw_is_that_of_least_refusal_within_the_damage_that_the_rule_allows() -> None:
    bypass, kl = [3.0, 1.0, 2.0], [0.0, 0.5, 0.1]
    asked: list[int] = []

    def damage(place: int) -> float:
        asked.append(place)
        return kl[place]

    assert pick(range(3), bypass.__getitem__, damage, 0.2) == 2
    assert asked == [1, 2]  # in the order of what they remove, no further than needed
    assert pick(range(3), bypass.__getitem__, damage, None) == 1
    asked.clear()
    assert pick(range(3), bypass.__getitem__, damage, -1.0) == 0  # none passes: the least damage
    assert sorted(asked) == [0, 1, 2]  # none twice
    assert pick([1, 2], bypass.__getitem__, damage, -1.0) == 2  # of the promising ones alone


def test_a_draw_that_damages_more_is_ablated_in_part(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions drawn evenly on the sphere break an organism, so wide is what its parts stand on."""

    def evenly(_centred: torch.Tensor, length: float, weights: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return length * torch.nn.functional.normalize(torch.randn(len(weights), 96, generator=generator), dim=1)

    monkeypatch.setattr(stats, "within_class", evenly)
    bench, experiment = organism(home, "shared", n_controls=20, induce=False)
    found = read_controls(compare_controls(bench.asking(experiment), "qaa", "qab"))
    partial = [each for each in found.draws if each.strength < 1]
    assert partial
    assert found.kl < found.kl_limit == stats.NO_DAMAGE
    assert all(each.kl <= found.kl_limit for each in found.draws)
    assert found.n_whole == 20 - len(partial)
    assert found.matching.startswith("20 draws, searched over ")
    assert "places, matched to KL 0.001 in qab" in found.matching
    assert f"{len(partial)} by partial ablation" in found.matching
    short = msgspec.structs.replace(partial[0], kl=0.5 * found.kl_limit)
    others = tuple(msgspec.structs.replace(each, kl=found.kl_limit) for each in found.draws if each is not partial[0])
    weaker = msgspec.structs.replace(found, draws=(short, *others))
    assert weaker.matching.endswith("(1 of these below 90% of it)")
    assert "below" not in msgspec.structs.replace(found, draws=others).matching
    assert found.p == found.smallest_p
    monkeypatch.setattr(stats, "NO_DAMAGE", 1e6)  # whatever they break
    free = read_controls(compare_controls(bench.asking(experiment.changed(control_prompts=7)), "qaa", "qab"))
    assert free.n_whole == 20
    assert max(each.kl for each in free.draws) > 0.1
    assert max(each.drop for each in free.draws) > max(each.drop for each in found.draws)


def test_where_damage_cannot_be_matched_there_is_no_null(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, experiment = organism(home, "shared", n_controls=21, induce=False)
    monkeypatch.setattr(control_effects._Bench, "kl", lambda _self, _asked: 0.5)
    monkeypatch.setattr(stats, "damage_limit", lambda _kl: 0.1)
    with pytest.raises(EmptySelection, match=r"could not be matched in damage: one makes a KL of more than 0\.1 nats"):
        compare_controls(bench.asking(experiment), "qaa", "qab")


def test_without_harmless_test_prompts_damage_cannot_be_compared(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, experiment = organism(home, "shared")
    plain = control_effects.sets.usable
    monkeypatch.setattr(
        control_effects.sets,
        "usable",
        lambda data, lang, kind, split: [] if (kind, split) == ("harmless", "test") else plain(data, lang, kind, split),
    )
    with pytest.raises(EmptySelection, match="no harmless test prompts"):
        compare_controls(bench.asking(experiment), "qaa", "qab")


def test_harmless_prompts_that_are_refused_are_no_measure_of_damage(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their answers change as they should, which would let draws damage far more than the direction does."""
    draw_control_directions(organism(home, "shared")[0].asking(organism(home, "shared")[1]), "qaa")
    read, harmful = control_effects.read_prompts, list[Prompt]()

    def compared(name: str) -> Controls:
        store = shutil.copytree(home, tmp_path / name)
        bench, experiment = organism(store, "shared", control_prompts=7)
        return read_controls(compare_controls(bench.asking(experiment), "qaa", "qab"))

    def refused_first(prompts: Artifact) -> list[Prompt]:
        if prompts.about["kind"] == "harmless":
            return [*harmful[:6], *read(prompts)]
        harmful.extend(read(prompts))
        return read(prompts)

    plain = compared("plain")
    monkeypatch.setattr(control_effects, "read_prompts", refused_first)
    mixed = compared("mixed")
    assert (mixed.n_harmless, mixed.n_scored) == (7, plain.n_scored + 7)
    assert (mixed.kl, mixed.kl_limit) == pytest.approx((plain.kl, plain.kl_limit), abs=1e-5)
    monkeypatch.setattr(control_effects, "read_prompts", lambda _prompts: harmful[:6])
    with pytest.raises(EmptySelection, match=r"all 6 harmless test prompts of qab have a refusal score of 0 or more"):
        compared("refused")


def test_a_target_that_refuses_nothing_has_no_null(home: Path) -> None:
    bench, experiment = organism(home, "ceiling")
    with pytest.raises(EmptySelection):
        compare_controls(bench.asking(experiment), "qaa", "qac")


def test_several_directions_at_once_are_compared_with_subspaces_of_their_rank(home: Path) -> None:
    bench, experiment = organism(home, "plane", rank=2, induce=False)
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
