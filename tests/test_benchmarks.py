"""Benchmarks run, and give no figure for results that disagree."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import (
    gpu_check,
    growth,
    null_runs,
    passes_speed,
    peers_speed,
    procedure_simulation,
    shapes,
    verdict_cost,
)
from benchmarks import organism_rates as rates
from benchmarks import selection_speed as speed
from refusalctl.errors import BadInput, NotFound
from refusalctl.json_types import JsonObject
from refusalctl.organisms.designs import KNOWN, Organism
from refusalctl.stats.rates import Rate
from refusalctl.steps.completions import COMPLETIONS_FILE
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

ROOT = Path(__file__).resolve().parents[1]
HELPERS = {"__init__", "command", "llama_cpp_model", "refuser_texts", "selection_reference", "shapes"}
NAMES = sorted({p.stem for p in (ROOT / "benchmarks").glob("*.py")} - HELPERS)


def test_every_benchmark_has_help_and_stands_in_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", "--help"])
        with pytest.raises(SystemExit) as stopped:
            importlib.import_module(f"benchmarks.{name}").main()
        assert stopped.value.code == 0
        assert f"python -m benchmarks.{name}" in capsys.readouterr().out
        assert f"`python -m benchmarks.{name}" in listed


def test_searches_are_timed_against_the_published_way(tmp_path: Path) -> None:
    speed.main(["--tiny", "--rounds", "1", "--n", "4", "--sample", "0", "--out", str(tmp_path / "speed.json")])
    value = json.loads((tmp_path / "speed.json").read_text())
    assert value["agreement"]["largest_difference"] < 1e-3
    assert value["agreement"]["same_choice"]
    assert set(value["seconds"]) == {"reference", "bare", *speed.SEARCHES}
    assert value["scores_taken"]["prune"] < value["scores_taken"]["full"] == 3 * value["candidates"]


SUITE = '<testsuites><testsuite tests="{}" failures="{}" errors="0" skipped="{}"/></testsuites>'


@pytest.mark.parametrize(("counts", "kept"), [((232, 0, 0), True), ((232, 1, 0), False), ((232, 0, 232), False)])
def test_tests_of_a_gpu_count_where_some_passed_and_none_failed(
    counts: tuple[int, int, int], kept: bool, tmp_path: Path
) -> None:
    file = tmp_path / "tests.xml"
    file.write_text(SUITE.format(*counts), encoding="utf-8")
    (row,) = gpu_check.rows_of_tests(file)
    assert row.kept is kept


def test_figures_of_a_gpu_are_held_against_the_targets_of_their_shape(tmp_path: Path) -> None:
    shown = ["--rounds", "1", "--n", "4", "--threads", "1", "--out", str(tmp_path / "figures.json")]
    passes_speed.main(["--model", "tiny", "--answers", "2", "--new-tokens", "4", *shown])
    passed = json.loads((tmp_path / "figures.json").read_text())
    assert set(passed["collect"]["limits"]) == {"compute", "copy", "disk"}
    assert {row.kept for row in gpu_check.passes_rows(passed, with_targets=False)} == {None}
    for factor, kept in ((100.0, True), (1e-6, False)):
        for each in (*passed["collect"]["speed"].values(), *passed["ablate"]["speed"].values()):
            each["median"] = factor
        rows = {row.what.rpartition(": ")[2]: row.kept for row in gpu_check.passes_rows(passed, with_targets=True)}
        assert rows["collect / bare"] is rows["ablated / plain"] is kept
    about = {"setting": {"model": "m"}, "candidates": 7}
    timed = {"median": 6.0, "min": 5.0, "max": 7.0}
    found = gpu_check.selection_rows(
        about | {"faster_than_reference": {"full": timed, "prune": timed, "bare": timed}}, True
    )
    assert [(row.target, row.kept) for row in found] == [(">= 5", True), (">= 8", False)]
    assert re.search(r"full / published way +6\.00 \(5\.00 to 7\.00\) +>= 5 +yes\n", gpu_check.table(found))


def test_without_a_gpu_nothing_is_green(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 1
    assert "no CUDA device" in capsys.readouterr().err


def test_a_part_of_the_gpu_check_that_fails_is_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def breaks(*_: object) -> list[gpu_check.Row]:
        raise RuntimeError("the driver is too old")

    good = [gpu_check.Row("good", "1", "", None)]
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_check, "machine", lambda: {"cards": ["a card"], "driver": "1.2"})
    for name in ("run_tests", "run_passes", "run_grid", "run_searches"):
        monkeypatch.setattr(gpu_check, name, lambda *_: good)
    monkeypatch.setattr(gpu_check, "run_devices", lambda: good)
    assert gpu_check.main(["--model", "tiny"]) == 0
    monkeypatch.setattr(gpu_check, "run_passes", breaks)
    assert gpu_check.main(["--model", "tiny", "--out", str(tmp_path / "gpu.json")]) == 1
    printed = capsys.readouterr().out
    assert "a card" in printed
    assert "RuntimeError: the driver is too old" in printed
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"][1]["kept"] is False


def test_a_device_is_held_against_a_processor() -> None:
    plain, other = (shapes.opened("organism:shared", device="cpu", dtype="float32") for _ in range(2))
    rows = gpu_check.device_rows("cpu", other, plain, recorded=True)
    assert [row.kept for row in rows] == [True, True, False]  # nothing is recorded here
    with torch.no_grad():
        other.model.get_input_embeddings().weight.mul_(-1)
    assert gpu_check.device_rows("cpu", other, plain, recorded=False)[0].kept is False


def test_a_verdicts_cost_counts_all_that_it_rests_on_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def kept(kind: str, inputs: list[Artifact], seconds: float | None, **checks: int) -> Artifact:
        with store.draft() as out:
            if kind == "completions":
                formats.write_rows(out / COMPLETIONS_FILE, [{"token_ids": [1, 2]}, {"token_ids": [3]}])
            recipe: JsonObject = {"step": kind, "inputs": {str(i): each.id for i, each in enumerate(inputs)}}
            recipe["params"] = {"told": seconds}
            return store.commit(out, kind, recipe, {}, {"seconds": seconds, "checks": checks})

    first = kept("activations", [], 1.0, n=8)
    scores = kept("scores", [first], 2.0, prompt_passes=30)
    kept("scores", [], 50.0, prompt_passes=500)
    answers = kept("completions", [scores], 4.0)
    transfer = kept("transfer", [answers, scores], 0.5)
    cells = [SimpleNamespace(target="be", n=2, removal=None)]
    cells += [SimpleNamespace(target="be", n=2, removal=SimpleNamespace(p_null=p)) for p in (0.1, None)]
    record = SimpleNamespace(cells=cells, targets={"be": SimpleNamespace(detectable=0.5)})
    monkeypatch.setattr(verdict_cost, "read_transfer", lambda _transfer: record)
    value = verdict_cost.measured(store, transfer)
    assert value["whole"] == {"artifacts": 4, "seconds": 7.5, "passes": 38, "answers": 2, "new_tokens": 3}
    assert (value["verdicts"], value["with_controls"], value["detectable"]) == (2, 1, 0.5)
    assert value["per_verdict"]["seconds"] == 3.75
    with pytest.raises(BadInput, match="does not say how long it took"):
        verdict_cost.measured(store, kept("transfer", [scores], None))
    shutil.rmtree(store.root / "activations")
    with pytest.raises(NotFound):
        verdict_cost.measured(store, transfer)


def test_exponents_are_those_of_the_points() -> None:
    found = growth.fitted([1, 2, 4, 8], [3 * x**1.5 for x in (1, 2, 4, 8)])
    assert found == pytest.approx((1.5, 1.5, 1.5))
    noisy = growth.fitted([1, 2, 4, 8], [1.0, 2.2, 3.7, 8.4])
    assert noisy.low is not None
    assert noisy.high is not None
    assert noisy.low < 1.0 < noisy.high
    assert growth.fitted([1, 2], [1.0, 4.0]) == pytest.approx((2.0, None, None))


def test_results_that_disagree_get_no_figure() -> None:
    with pytest.raises(SystemExit, match="no ratio is given"):
        speed.main(["--tiny", "--n", "4", "--agree", "1e-12"])


def test_peers_are_compared_on_exported_values(tmp_path: Path) -> None:
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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: dict[str, object], expected: str | None
) -> None:
    monkeypatch.setattr(peers_speed, "_run", lambda _command: json.dumps(said))
    value = peers_speed.measured(peers_speed.OWN, tmp_path, 1)
    assert ("speed" in value) == (expected is None)
    assert (expected or "") in value.get("failed", "")


def test_draws_that_nobody_chose_are_no_match_for_a_chosen_direction() -> None:
    """Why control directions are searched: the error of the whole procedure, and what it would be without."""
    generator, alike = np.random.default_rng(0), procedure_simulation.Design(3, 16, 0.5, 16)
    searched = procedure_simulation.family_wise(alike, 150, generator)
    plain = procedure_simulation.family_wise(alike._replace(places=1), 150, generator)
    assert searched.both < 0.11 < plain.both  # 0.05 and 0.19 in 1,000 matrices
    assert searched.limits > 0.9  # nothing but the controls stood between these directions and a transfer


# --- rates of wrong verdicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "removed", "lost", "wrong"),
    [
        ("transfers", 0.1, 0.1, True), ("transfers", 0.11, 0.11, False),
        ("reverses", -0.1, 0.0, True), ("reverses", -0.11, 0.0, False),
        ("does not transfer", 0.09, 0.09, False), ("does not transfer", 0.1, 0.1, True),
        ("does not transfer", 0.0, 0.17, True), ("does not transfer", -0.1, 0.0, True),
        ("inconclusive", 0.5, 0.5, False), ("uninformative", 0.5, 0.5, False),
    ],
)  # fmt: skip
def test_what_counts_as_a_wrong_verdict(verdict: str, removed: float, lost: float, wrong: bool) -> None:
    assert rates.is_wrong(verdict, removed, lost) is wrong


def test_a_rate_above_its_promise_is_told_with_limits_unless_the_judge_is_to_blame() -> None:
    row = rates.Row("noisy-08", "right", 128, 0.08, 0.08, {"transfers": 12, "inconclusive": 188}, 1.0)
    assert row.broken  # 6 % [3.1 %, 10.2 %] where 2.5 % are promised
    assert "12 of 200 (transfers): 6.0% [3.1%, 10.2%]" in row.told()
    assert not row._replace(judge="blind-10").broken
    assert not row._replace(verdicts={"transfers": 6, "inconclusive": 194}).broken
    assert not row._replace(removed=0.12).broken


def test_experiments_on_an_organism_read_first_tokens_as_generated_answers_and_decide() -> None:
    from refusalctl.steps.organism_counts import OrganismCounts

    found = rates.Experiments(Organism(KNOWN["noisy-30"]), size=120)
    counted = OrganismCounts(found.organism, n=120)
    assert found.plain["harmful"] == list(counted.outcomes("qab", "harmful").values())
    known = counted.count("qaa", "qab", "removal")
    assert found.truth() == (known.moved, known.lost)
    assert 0.2 < known.moved < 0.5
    row = rates.measure(found, "right", 48, 3)
    assert row.repeats == 3
    assert set(row.verdicts) <= {"transfers", "inconclusive"}
    assert rates.measure(found, "right", 48, 3).verdicts == row.verdicts
    # a judge that takes every refusal under an intervention for an answer sees all of them removed
    deceived = found.verdict(np.random.default_rng(0), 48, missed=1.0)
    assert deceived == "transfers"


def test_rates_are_of_designs_whose_answers_they_can_make_and_their_truth_is_no_judge_s() -> None:
    for name, why in (
        ("opening", "share their first token"),
        ("shift", "are others than its train"),
        ("none", "not counted"),
    ):
        with pytest.raises(BadInput, match=why):
            rates.Experiments(Organism(KNOWN[name]), size=20)
    removed, lost = rates.Experiments(Organism(KNOWN["unlisted"]), size=120).truth()
    assert (removed, lost) == (0.0, 0.0)  # the judge takes a quarter of these refusals for answers


def test_whole_runs_of_a_null_organism_are_counted_by_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    found = null_runs.run(0, n_train=12, n_val=8, n_test=12, layers=[3], positions=[-1], control_prompts=3)
    assert len(found.verdicts) == 2
    assert found.p is not None
    assert 0 <= found.cleared <= 2
    both, one = found._replace(verdicts=("transfers",) * 2), found._replace(verdicts=("inconclusive", "transfers"))
    none = found._replace(verdicts=("inconclusive", "reverses"), cleared=0)
    runs = [both, one, none, none]
    assert null_runs.wrong(runs, "transfers") == Rate(2, 4)  # matrices, not cells
    assert null_runs.wrong(runs, "reverses") == Rate(2, 4)
    assert "| a false 'transfers' | 2 of 4, 50.0% | 6.8% to 93.2% |" in null_runs.told(runs)
    monkeypatch.setattr(null_runs, "run", lambda _seed: both)
    with pytest.raises(SystemExit, match="more matrices are wrong"):
        null_runs.main(["--runs", "3"])
    monkeypatch.setattr(null_runs, "run", lambda seed: both if seed == 0 else none._replace(verdicts=()))
    null_runs.main(["--runs", "20"])  # one of 20 is what is promised
