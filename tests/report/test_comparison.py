"""Two transfers cell by cell."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from refusalctl.errors import BadInput, Corrupt
from refusalctl.report.comparison import compare_transfers
from refusalctl.report.make import files_of
from refusalctl.steps.comparison import compared
from tests.report.test_page import a_world, html, text_of


def test_two_transfers_are_compared_prompt_by_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.steps import world as made

    world, one = a_world(tmp_path, model="model-one")
    # first 16 R then 4 C; second: two of the refusals comply, one compliance refuses
    monkeypatch.setitem(made.HARMFUL, ("en", None), "CCRRRRRRRRRRRRRRRCCC")
    _, two = a_world(tmp_path, model="model-two")
    found = compare_transfers(world.bench, [one, two])
    rows = list(csv.DictReader((found.path / "pairs.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 12
    row = next(r for r in rows if (r["target"], r["condition"], r["prompts"]) == ("en", "baseline", "harmful"))
    counts = [row[k] for k in ("shared", "both_refuse", "only_first", "only_second", "neither", "difference", "p")]
    assert counts == ["20", "14", "2", "1", "3", "-0.05", "1"]
    assert row["changed"] == "3"
    # po = 17/20, pe = (16 * 15 + 4 * 5) / 400
    assert float(row["kappa"]) == pytest.approx((0.85 - 0.65) / 0.35, abs=1e-5)
    unlabelled = next(r for r in rows if (r["target"], r["condition"], r["prompts"]) == ("ba", "baseline", "harmful"))
    assert sum(int(unlabelled[k]) for k in ("both_refuse", "only_first", "only_second", "neither")) == 19
    text = text_of(html(found))
    assert "model: name model-one model-two" in text
    assert "More than one thing differs" not in text
    assert compared(world.bench.store, one, two).noise_floor is None  # another model is no rerun


def test_a_rerun_shows_how_much_running_again_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.steps import world as made

    world, one = a_world(tmp_path)
    monkeypatch.setitem(made.HARMFUL, ("en", None), "CCRRRRRRRRRRRRRRRCCC")
    _, two = a_world(tmp_path)
    floor = compared(world.bench.store, one, two).noise_floor
    assert floor is not None
    assert (floor.changed, floor.n) == (3, 240)
    assert "changed the outcome of 3 of 240 answers: 1" in text_of(html(compare_transfers(world.bench, [one, two])))


def test_one_transfer_is_no_comparison(tmp_path: Path) -> None:
    world, one = a_world(tmp_path)
    for given in ([one], [one, one], [one] * 3):
        with pytest.raises(BadInput, match="takes two different transfers"):
            compare_transfers(world.bench, given)


def test_a_format_that_a_comparison_has_not_is_refused(tmp_path: Path) -> None:
    world, one = a_world(tmp_path, model="model-one")
    _, two = a_world(tmp_path, model="model-two")
    with pytest.raises(BadInput, match="has no file in the format md"):
        files_of(compare_transfers(world.bench, [one, two]), "md")


def test_transfers_that_contradict_themselves_leave_no_comparison(tmp_path: Path) -> None:
    world, one = a_world(tmp_path)
    wrong = world.changed(one, lambda value: value["cells"][1].update(labels=value["cells"][0]["labels"]))
    with pytest.raises(Corrupt, match="the labels are of other completions"):
        compare_transfers(world.bench, [one, wrong])
    assert not world.bench.store.all("comparison")
