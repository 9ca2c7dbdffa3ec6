"""`refusalctl gate`: what it exits with, and what it leaves behind for continuous integration."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from refusalctl.cli import app as cli

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "store"
ID = next((GOLDEN / "transfer").iterdir()).name
MET, BROKEN, OPEN = "qaa>qab=inconclusive", "qaa>qab!=inconclusive", "qaa>qab=transfers"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("REFUSALCTL_STORE", str(GOLDEN))
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refusalctl", "gate", ID[:12], *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return int(str(stopped.value.code or 0)), said.out, said.err

    return call


def test_the_exit_code_says_met_not_met_or_undecided(gate) -> None:  # type: ignore[no-untyped-def]
    assert gate("--expect", MET)[0] == 0
    assert gate("--expect", BROKEN)[0] == 3
    assert gate("--expect", OPEN)[0] == 4
    assert gate("--expect", MET, "--expect", OPEN, "--expect", BROKEN)[0] == 3
    assert gate("--expect", MET, "--expect", "qaa>*=transfers")[0] == 4


def test_nothing_expected_is_wrong_usage_and_nonsense_an_error(gate) -> None:  # type: ignore[no-untyped-def]
    code, out, err = gate()
    assert (code, out) == (2, "")
    assert "--expect" in err
    code, out, err = gate("--expect", "qaa>fr=transfers")
    assert (code, out) == (1, "")
    assert "is not a target" in err


def test_json_and_junit_say_the_same(gate) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = gate("--expect", MET, "--expect", OPEN, "--json", "--junit", "gate.xml")
    told = json.loads(out)
    assert (code, told["exit_code"], told["state"], told["transfer"]) == (4, 4, "undecided", ID)
    assert [each["state"] for each in told["checks"]] == ["met", "undecided"]
    assert told["checks"][1]["verdict"] == "inconclusive"
    suite = ElementTree.parse("gate.xml").getroot()
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("2", "1", "0")
    assert {each.get("name"): each.get("value") for each in suite.iter("property")}["transfer"] == ID


def test_expectations_stand_in_the_experiment_file_too(gate, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "experiment.toml"
    file.write_text(f'[experiment]\nsources = ["qaa"]\ntargets = ["qab"]\n[gate]\nexpect = ["{MET}"]\n')
    assert gate("--config", str(file))[0] == 0
    assert gate("--config", str(file), "--expect", BROKEN)[0] == 3
    for wrong, said in (('exspect = ["a"]', "did you mean 'expect'?"), ("expect = 3", "expected a list of texts")):
        file.write_text(f"[gate]\n{wrong}\n")
        code, _, err = gate("--config", str(file))
        assert (code, said in err) == (1, True)


def test_a_transfer_that_was_changed_opens_no_gate(gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(GOLDEN / "transfer", tmp_path / "store" / "transfer")
    file = tmp_path / "store" / "transfer" / ID / "transfer.json"
    file.chmod(0o644)
    file.write_text(file.read_text().replace('"value":"inconclusive"', '"value":"transfers"', 1))
    monkeypatch.setenv("REFUSALCTL_STORE", str(tmp_path / "store"))
    code, out, err = gate("--expect", OPEN)
    assert (code, out) == (1, "")
    assert "transfer.json" in err
