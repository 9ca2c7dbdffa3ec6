"""Examples of README.md, tutorial and library run, and the commands in every document exist with their flags."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
import webbrowser
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from refusalctl.cli import app as cli
from refusalctl.cli.app import app
from refusalctl.resolve import resolve

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / name / "README.md" for name in ("examples", "benchmarks", "PolyRefuse", "artifacts")]
ON_TINY = (
    ('"examples/demo.toml"', f'"{ROOT}/examples/smoke_test.toml"'), ('"ba"', '"qaa"'), ('"de"', '"qab"'),
    ("report()", "report(geometry=False)"),
)  # fmt: skip


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pages that were shown in a browser."""
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not shown.append(url))  # type: ignore[func-returns-value]
    return shown


@pytest.mark.xdist_group("documents")
def test_the_readme_s_python_runs(
    opened: list[str], asked_once: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFUSALCTL_STORE", str(asked_once))
    (code,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    for written, tiny in ON_TINY:
        assert written in code
        code = code.replace(written, tiny)
    exec(compile(code, "README.md", "exec"), {})
    told = capsys.readouterr().out
    assert "compliance" in told
    assert "transfers" in told
    assert len(opened) == 1


def test_the_library_s_examples_run(
    opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in blocks(ROOT / "docs" / "library.md", "python"):
        exec(compile(code, "docs/library.md", "exec"), names)
    assert "transfers" in capsys.readouterr().out


def masked(text: str) -> str:
    """Without what another machine says otherwise: numbers, and how a table is spaced."""
    return " ".join(re.sub(r"\d+(?:[.,]\d+)*", "#", text).split())


@pytest.mark.xdist_group("documents")
def test_the_tutorial_s_commands_run_and_print_what_it_shows(
    asked_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "200")
    shown, told, ids = 0, "", list[str]()
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        if language == "toml":
            assert tomllib.loads(block) == tomllib.loads((ROOT / "examples" / "smoke_test.toml").read_text())
        elif language == "sh":
            told = ""
            for line in block.splitlines():
                # what is planned is planned from nothing, whatever other tests have computed
                monkeypatch.setenv("REFUSALCTL_STORE", str(tmp_path if "--dry-run" in line else asked_once))
                monkeypatch.setattr(sys, "argv", shlex.split(line))
                with pytest.raises(SystemExit) as stopped:
                    cli.main()
                captured = capsys.readouterr()
                assert not stopped.value.code, captured.err
                told += captured.out + captured.err
                ids += [captured.out] if line.startswith("refusalctl transfer --config") and "--dry" not in line else []
        else:
            said = [masked(line) for line in told.splitlines()]
            missing = [line for line in block.splitlines() if not any(masked(line) in each for each in said)]
            assert not missing, told
            shown += 1
    assert shown == 3
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_every_experiment_file_is_understood(file: Path) -> None:
    asked = resolve({}, file)
    assert asked.settings.prompts.data == tomllib.loads(file.read_text())["experiment"]["data"]
    assert file.name in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


def shell_lines(page: Path) -> Iterator[list[str]]:
    """Commands in shell blocks and in inline code, as words."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`((?:D=\$\()?(?:refusalctl|make) [^`]+)`", text)]
    for line in lines:
        words = shlex.split(line.removeprefix("D=$(").removeprefix("C=$(").rstrip(")"), comments=True)
        if words:
            yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_in_documents_exist_with_their_flags(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wrong = []
    assert not re.search(r"^```(?!sh$|python$|toml$|text$|json$|$)", page.read_text(encoding="utf-8"), re.MULTILINE)
    for words in shell_lines(page):
        if words[0] == "make":
            wrong += [w for w in words[1:] if not re.search(rf"^{re.escape(w)}:", makefile, re.MULTILINE)]
        if words[0] == "refusalctl":
            wrong += unknown(words[1:])
    assert not wrong


@cache
def program() -> Any:
    return typer.main.get_command(app)


def unknown(words: list[str]) -> list[str]:
    """What of a command line the program does not know."""
    command = program()
    rest = list(words)
    if words[0] == "COMMAND":
        return []
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return [" ".join(words)]
        command = command.commands[rest.pop(0)]
    flags = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    return [f"{' '.join(words)}: {w}" for w in rest if w.startswith("--") and w.partition("=")[0] not in flags]
