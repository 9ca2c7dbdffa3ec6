"""A matrix from its settings: what is written beside the cells that a verdict is about."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from refusalctl.records.cell import Cell, LanguagePair
from refusalctl.settings import Machine, Settings
from refusalctl.steps import transfer
from refusalctl.steps.goals import goals_of
from refusalctl.steps.selection.control_effects import compare_controls, read_controls
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer, read_transfer
from refusalctl.store.store import Store

ANSWERED = Settings.of(
    sources="qaa", targets=("qaa", "qab"), data="organism:separate", n_train=16, n_val=8, n_test=16, layers=(2,),
    max_new_tokens=6, n_controls=19, control_prompts=4, control_completions=19, induce=False,
    control_candidates=1,
)  # fmt: skip


def asked_in(folder: Path) -> Workbench:
    return Workbench(Store(folder), Machine("organism:separate", "cpu", "float32", batch_size=64)).asking(ANSWERED)


def measured(folder: Path) -> transfer.Transfer:
    return read_transfer(measure_transfer(asked_in(folder)))


def left_to_answer(folder: Path) -> list[object]:
    """What a plan of the answers under controls would still compute."""
    bench = asked_in(folder).planning()
    for goal in goals_of(ANSWERED):
        if goal.name.startswith("control-answers:"):
            goal.work(bench)
    return [line.about for line in bench.plan if not line.done]


def draws_of(record: transfer.Transfer, source: str, target: str) -> list[int | None]:
    return [c.draw for c in record.cells if (c.source, c.target, c.condition) == (source, target, "within_class")]


def test_answers_under_controls_decide_where_the_own_behaviour_clears_the_margin(tmp_path: Path) -> None:
    record = measured(tmp_path)
    verdicts = {(c.source, c.target): c.removal for c in record.cells if c.removal is not None}
    native = verdicts["qaa", "qaa"]
    assert native.value == "transfers"
    assert "beyond each of 19 in answers (p = 0.05)" in native.reason
    assert draws_of(record, "qaa", "qaa") == list(range(19))
    assert verdicts["qaa", "qab"].value != "transfers"
    assert draws_of(record, "qaa", "qab") == []  # nothing to certify: none was written
    assert left_to_answer(tmp_path) == []


@pytest.mark.parametrize(("design", "induce"), [("separate", False), ("shared", False), ("mirror", True)])
def test_the_own_direction_of_a_target_gets_controls_only_where_a_verdict_rests_on_it(
    tmp_path: Path, design: str, induce: bool
) -> None:
    """In `separate` nothing is removed, so the own direction is the positive control; in `mirror`, nothing is added."""
    name = f"organism:{design}"
    bench = Workbench(Store(tmp_path), Machine(name, "cpu", "float32", batch_size=64))
    asked = ANSWERED.changed(data=name, targets="qab", control_completions=0, n_test=8, induce=induce)
    artifact = measure_transfer(bench.asking(asked))
    verdicts = {c.source: c.removal for c in read_transfer(artifact).cells if c.removal is not None}
    asked_for = {key for key in artifact.inputs if key.startswith("controls:")}
    if design == "shared":
        assert asked_for == {"controls:qaa>qab"}
        assert verdicts["qaa"].value == "transfers"
        assert "no verdict of this matrix rests on this language's own direction" in verdicts["qab"].reason
        assert len(bench.store.ids("control_directions")) == 1  # one search, of the source
        again = bench.asking(asked).planning()
        measure_transfer(again)
        assert all(line.done for line in again.plan)  # a plan of what is there counts nothing that was left out
    else:
        assert asked_for == {"controls:qaa>qab", "controls:qab>qab"}
        assert verdicts["qab"].value == "transfers"


def test_answers_stop_at_the_first_draw_that_removes_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third draw is given the real direction's answers."""
    plainly = transfer._control_answers

    def copied(bench: Workbench, pair: LanguagePair, controls: transfer.Artifact, draw: int) -> object:
        cell, answers = plainly(bench, pair, controls, draw)
        if draw != 2:
            return cell, answers
        spec = transfer.InterventionSpec("ablate", transfer.select_direction(bench, pair.source))
        prompts = transfer.draw_prompts(bench, pair.target, "harmful", "test")
        return transfer._written(bench, prompts, Cell(*pair, "within_class", draw=draw), spec)

    monkeypatch.setattr(transfer, "_control_answers", copied)
    record = measured(tmp_path)
    native = next(c.removal for c in record.cells if (c.source, c.target) == ("qaa", "qaa") and c.removal is not None)
    assert native.value == "inconclusive"
    assert (
        "beyond controls (p = 0.05) by refusal scores, but control direction 3 may remove +100% in answers"
        in native.reason
    )
    assert draws_of(record, "qaa", "qaa") == [0, 1, 2]
    assert left_to_answer(tmp_path) == []


def test_answers_are_written_at_the_strength_that_matched_the_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, pair = asked_in(tmp_path), LanguagePair("qaa", "qaa")
    held = compare_controls(asked, *pair)
    record = read_controls(held)
    draws = tuple(replace(each, strength=0.25 + i / 100) for i, each in enumerate(record.draws))
    monkeypatch.setattr(transfer, "read_controls", lambda _held: replace(record, draws=draws))
    _cell, answers = transfer._control_answers(asked, pair, held, 2)
    done = answers.manifest["recipe"]["params"]["intervention"]
    assert (done["family"], done["draw"], done["strength"]) == ("within_class", 2, 0.27)
