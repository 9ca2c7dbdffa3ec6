"""System prompts as arms: what is asked for, what enters recipes, what is loaded, and what is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import refusalctl as rc
from refusalctl import study_arms
from refusalctl.cli import app as cli
from refusalctl.errors import BadInput
from refusalctl.results import Comparison, Report, Transfer
from refusalctl.settings import Machine, Settings
from refusalctl.steps.step import Workbench
from refusalctl.steps.system_arms import Arm, bench_of, system_arms
from refusalctl.store.store import Store
from tests import tiny
from tests.golden.make import STORE

DEFAULT = "{% if messages[0]['role'] != 'system' %}{{ '<turn>system\\nBe a tiny model.<end>\\n' }}{% endif %}"


@pytest.fixture
def bench(tiny_folder: Path, tmp_path: Path) -> Workbench:
    asked = Settings.of(sources=["en"], targets=["de"])
    return Workbench(Store(tmp_path / "store"), Machine(str(tiny_folder), "cpu"), asked)


@pytest.fixture
def with_own_text(tmp_path: Path) -> Workbench:
    folder = tiny.folder(tmp_path / "own")
    (folder / "chat_template.jinja").write_text(DEFAULT + tiny.TEMPLATE)
    return Workbench(Store(tmp_path / "store"), Machine(str(folder), "cpu"))


def test_arms_are_what_the_template_does_nothing_or_a_text(bench: Workbench, with_own_text: Workbench) -> None:
    given = ["own", "none", "kind=Be kind = good."]
    assert system_arms(with_own_text, given) == [Arm("own", None), Arm("none", ""), Arm("kind", "Be kind = good.")]
    assert with_own_text.notes == []
    assert system_arms(bench, given)[1] == Arm("none", None)  # this template writes nothing by itself
    assert bench.notes == ["the arms own and none are one and the same prompt with this template"]
    for arm, there in zip(system_arms(with_own_text, given), ("Be a tiny", "system\n<end>", "Be kind = good.")):
        assert there in bench_of(with_own_text, arm).small[1].rendered("Hi")


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ([], "expected at least two"),
        (["own"], "expected at least two"),
        (["own", "own"], "two different ones"),
        (["a=x", "a=y"], "two different ones"),
        (["own", "Be kind."], "is no arm"),
        (["own=x", "none"], "is no arm"),
        (["own", "other"], "is no arm"),
    ],
)
def test_arms_that_cannot_be_told_apart_are_refused(given: list[str], cause: str, bench: Workbench) -> None:
    with pytest.raises(BadInput, match=cause):
        system_arms(bench, given)


def test_a_system_prompt_beside_arms_is_refused(bench: Workbench) -> None:
    with pytest.raises(BadInput, match="arms name several"):
        system_arms(bench_of(bench, Arm("kind", "Be kind.")), ["own", "none"])


def test_each_arm_is_a_recipe_of_its_own_and_the_weights_are_loaded_once(bench: Workbench) -> None:
    other = bench_of(bench, Arm("kind", "Be kind."))
    assert bench.model_key() == other.model_key() | {"system": None}
    assert other.model_key()["system"] == "Be kind."
    assert other.model.model is bench.model.model
    assert "Be kind." in other.model.chat.rendered("Hi")
    assert "Be kind." not in bench.model.chat.rendered("Hi")
    other.release()
    assert bench.models == {}  # or the weights would stay in memory


def test_a_study_asks_every_arm(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    artifact = Store(STORE).all("transfer")[0]

    planned: list[str | None] = []

    def measure(each: Workbench, *, is_checked: bool) -> object:
        assert is_checked
        assert planned == [None, "Be kind."]  # all of them, before the first is measured
        asked.append(each.machine.system)
        return artifact

    monkeypatch.setattr(study_arms, "check_plan", lambda each: planned.append(each.machine.system))
    monkeypatch.setattr(study_arms, "measure_transfer", measure)
    study = rc.Study(bench.machine.model, store=bench.store.root, sources=["en"], targets=["de"])
    found = study.arms(["own", "kind=Be kind."])
    assert list(found) == ["own", "kind"]
    assert asked == [None, "Be kind."]
    assert study.between_arms(found) == {}  # both are one artifact here: there is nothing to compare
    with pytest.raises(BadInput, match="needs languages"):
        rc.Study(bench.machine.model, store=bench.store.root).arms(["own", "none"])


def test_the_command_shows_arms_beside_each_other(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Store(STORE)
    transfer, comparison = Transfer(kept, kept.all("transfer")[0]), Comparison(kept, kept.all("comparison")[0])
    page = Report(kept, kept.all("report")[0])
    monkeypatch.setattr(rc.Study, "arms", lambda _study, given: {each.partition("=")[0]: transfer for each in given})
    monkeypatch.setattr(rc.Study, "between_arms", lambda _study, _found: {"kind": comparison})
    monkeypatch.setattr(rc.Study, "report", lambda _study, _given: page)
    languages = ["--sources", "en", "--targets", "de", "--store", str(bench.store.root)]
    command = ["refusalctl", "arms", "--arm", "own", "--arm", "kind=Be kind.", *languages]
    monkeypatch.setattr(sys, "argv", [*command, "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    system = transfer.record.model["system"]
    first, second = (
        {"arm": name, "system": system, "transfer": transfer.id, "comparison": other}
        for name, other in (("own", None), ("kind", comparison.id))
    )
    assert found == {"arms": [first, second], "report": page.id}
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr()
    assert shown.out.split() == [transfer.id, transfer.id, page.id]
    assert "points [" in " ".join(shown.err.split())
