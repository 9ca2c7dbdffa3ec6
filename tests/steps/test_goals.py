"""Goals are all that a transfer needs, and any order of them gives the same matrix."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import refusalctl as rc
from refusalctl.stats import opening_check
from refusalctl.steps.goals import Goal, goals_of
from refusalctl.steps.run_goals import run_goals
from refusalctl.store.event_log import EventLog, read_run
from refusalctl.store.store import Store

ASKED: dict[str, Any] = {
    "model": "organism:shared", "data": "organism:shared", "sources": ["qaa"], "targets": ["qab"],
    "n_train": 12, "n_val": 6, "n_test": 5, "max_new_tokens": 6, "layers": [2], "n_controls": 19,
    "control_prompts": 2, "control_candidates": 1, "controls": True, "control_completions": 1,
}  # fmt: skip
PLAIN = {"controls": False, "control_completions": 0}
CHANGES = {
    "controls": {"induce": False},
    "own controls": {"induce": False, "model": "organism:separate", "data": "organism:separate", "n_test": 8},
    "doses": PLAIN | {"doses": [1.0, 2.0]},
    "rank": PLAIN | {"rank": 2, "induce": False},
    "none": PLAIN | {"model": "organism:none", "data": "organism:none"},
}


def shuffled(goals: list[Goal], seed: int) -> list[Goal]:
    """Any order: who runs a goal before what it needs computes that too."""
    order = list(goals)
    random.Random(seed).shuffle(order)
    return order


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_all_goals_only_the_matrix_is_left_and_its_id_is_that_of_one_pass(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    whole = rc.Study(**(ASKED | change), store=tmp_path / "whole").transfer()
    study = rc.Study(**(ASKED | change), store=tmp_path / "parts")
    log = study.bench.events = EventLog(study.store)
    goals = study.goals()
    place = {goal.name: i for i, goal in enumerate(goals)}
    assert all(
        place[need] < place[goal.name] for goal in goals for need in goal.needs
    )  # as they are given, needs first
    run_goals(study.bench, shuffled(goals, 1)).check()
    before = len(began(log))
    assert study.transfer().id == whole.id
    assert began(log)[before:] == ["transfer"]
    # nothing was computed that the matrix does not need
    assert set(Store(tmp_path / "parts").ids()) == set(Store(tmp_path / "whole").ids())


def began(log: EventLog) -> list[str]:
    events = read_run(log.store, log.run).events
    return [e.name for e in events if (e.scope, e.event) == ("step", "began")]


def test_a_part_computes_what_it_lacks_and_a_second_one_finds_it(tmp_path: Path) -> None:
    change = PLAIN | {"induce": False}
    study = rc.Study(**(ASKED | change), store=tmp_path)
    (goal,) = study.goals(["labels:qaa:qab"])
    outcome = study.work([goal])
    (identifier,) = outcome.done["labels:qaa:qab"]
    assert study.open(identifier).about["direction_lang"] == "qaa"
    again = rc.Study(**(ASKED | change), store=tmp_path)
    assert again.work(again.goals(["select:qaa", "labels:qaa:*"])).done["labels:qaa:qab"] == [identifier]
    assert all(line.done for line in again.plan)


def test_openings_that_do_not_fit_one_language_are_its_finding_and_stop_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse(found: Any, least: float, lang: str, origin: str) -> Any:
        return plain(replace(found, covered=0) if lang == "qab" else found, least, lang, origin)

    plain = opening_check.check
    monkeypatch.setattr(opening_check, "check", worse)
    study = rc.Study(**(ASKED | {"induce": False, "control_completions": 0, "n_test": 8}), store=tmp_path)
    study.work().check()
    found = study.transfer()
    assert "derived refusal openings do not fit 'qab'" in found.record.no_direction["qab"]
    assert found.verdict("qaa", "qab") == "inconclusive"  # no score to compare controls by
    with pytest.raises(rc.RefusalctlError, match="given refusal openings do not fit"):
        rc.Study(**(ASKED | {"refusal_openings": ("bano bamo bako",)}), store=tmp_path).transfer()


def test_names_have_no_character_that_a_shell_takes_for_its_own() -> None:
    names = [goal.name for goal in goals_of(rc.Study(**ASKED).settings)]
    assert len(set(names)) == len(names)
    assert not set("".join(names)) & set(" <>|&;$`'\"\\*?[](){}!#~")
