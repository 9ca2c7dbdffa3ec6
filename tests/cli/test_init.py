"""`refusalctl init`: four questions or four flags, and a file that a run takes."""

from __future__ import annotations

import io
import json
import sys
import tomllib
from pathlib import Path

import pytest

from refusalctl.cli import app as cli
from refusalctl.cli import out
from refusalctl.resolve import expectations, resolve
from refusalctl.settings import Machine, Settings, declared

FLAGS = ("--model", "smollm2", "--data", "sample", "--sources", "en,be", "--targets", "en,be,ba")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refusalctl", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return int(str(stopped.value.code or 0)), said.out, said.err

    return run


def test_flags_make_a_file_that_says_what_they_say(call) -> None:  # type: ignore[no-untyped-def]
    code, said, _ = call("init", *FLAGS)
    assert (code, said) == (0, "experiment.toml\n")
    asked = resolve({}, Path("experiment.toml"), {})
    assert (asked.machine.model, asked.settings.prompts.data) == ("smollm2", "sample")
    assert (asked.settings.sources, asked.settings.targets) == (("en", "be"), ("en", "be", "ba"))
    assert asked.settings == Settings.of(sources=["en", "be"], targets=["en", "be", "ba"])  # and nothing else


def test_a_dry_run_takes_the_file(call, tiny_folder: Path) -> None:  # type: ignore[no-untyped-def]
    assert call("init", "mine/a.toml", *FLAGS[2:], "--model", str(tiny_folder))[0] == 0
    code, said, _ = call("run", "mine/a.toml", "--dry-run", "--json")
    assert code == 0
    assert {step["step"] for step in json.loads(said)["plan"]} >= {"select", "transfer"}


def test_lines_that_are_commented_out_hold_the_defaults(call) -> None:  # type: ignore[no-untyped-def]
    call("init", *FLAGS)
    lines = Path("experiment.toml").read_text(encoding="utf-8").splitlines()
    taken = "\n".join(line.removeprefix("# ") if " = " in line or "[gate]" in line else line for line in lines)
    Path("all.toml").write_text(taken, encoding="utf-8")
    assert expectations(Path("all.toml")) == ("en>*=transfers",)
    asked = resolve({}, Path("all.toml"), {})
    found = asked.settings.by_name() | asked.machine.to_json()
    plain = Settings().by_name() | Machine().to_json()
    named = {each.name for each in declared() if asked.origins[each.name] != "default"}
    assert len(named) > 15
    with_default = {name for name in named if plain[name] not in (None, ())} - {"data", "model", "device"}
    assert {name: found[name] for name in with_default} == {name: plain[name] for name in with_default}


def test_four_questions_are_asked_where_somebody_can_answer(call, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    asked: list[str] = []
    answers = iter(["", "sample", "EN, be", "ba"])

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return next(answers) or default

    monkeypatch.setattr(out, "can_ask", lambda: True)
    monkeypatch.setattr(out, "ask", ask)
    assert call("init")[0] == 0
    assert len(asked) == 4
    found = tomllib.loads(Path("experiment.toml").read_text(encoding="utf-8"))
    assert found["model"]["name"] == "smollm2-refuser"
    assert found["experiment"]["sources"] == ["en", "be"]


def test_enter_takes_the_default_and_the_end_of_input_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nde\n"))
    assert out.ask("Languages", "en") == "en"
    assert out.ask("Languages", "en") == "de"
    with pytest.raises(EOFError):
        out.ask("Languages", "en")


def test_nobody_is_asked_without_a_terminal(call) -> None:  # type: ignore[no-untyped-def]
    code, said, err = call("init", "--model", "smollm2")
    assert (code, said) == (2, "")
    assert "--data, --sources, --targets" in " ".join(err.replace("│", " ").split())
    assert not Path("experiment.toml").exists()
    assert call("init", "--yes")[0] == 0
    code, said, _ = call("init", "other.toml", *FLAGS, "--json")
    assert (code, json.loads(said)["targets"]) == (0, ["en", "be", "ba"])


def test_a_file_that_is_there_stays_and_a_wrong_language_is_told(call) -> None:  # type: ignore[no-untyped-def]
    Path("experiment.toml").write_text("mine")
    code, _, err = call("init", *FLAGS)
    assert (code, Path("experiment.toml").read_text()) == (1, "mine")
    assert "--replace" in err
    assert call("init", *FLAGS, "--replace")[0] == 0
    assert call("init", "b.toml", *FLAGS[:-1], "Klingon")[0] == 1
    code, _, err = call("init", "c.toml", *FLAGS[:-1], "fr")  # the sample set has none: a note, not an error
    assert (code, "has no French" in err) == (0, True)
