"""Experiment files as editors and pipes give them, and what is said of keys that are misplaced or given twice."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from refusalctl.cli.app import app
from refusalctl.errors import BadInput
from refusalctl.resolve import read_file

PLAIN = '[experiment]\nsources = ["en"]\nmax_kl = inf\n[model]\nname = "smollm2"\n'


def test_run_reads_an_experiment_from_standard_input() -> None:
    done = CliRunner().invoke(app, ["run", "-", "--explain", "--json"], input=PLAIN)
    assert done.exit_code == 0, done.output
    told = {row["setting"]: (row["value"], row["from"]) for row in json.loads(done.stdout)}
    assert told["sources"] == (["en"], "stdin")
    assert told["model"] == ("smollm2", "stdin")
    assert told["max_kl"] == ("inf", "stdin")  # as a file writes it; JSON has no infinity, and null is no limit


def test_an_error_on_standard_input_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"[experiment]\nseeed = 1\n")))
    with pytest.raises(BadInput, match="stdin: unknown key 'seeed'"):
        read_file(Path("-"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends_of_editors_change_nothing(tmp_path: Path, encoding: str, end: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(PLAIN.replace("\n", end).encode(encoding))
    assert read_file(file) == {"sources": ["en"], "max_kl": float("inf"), "model": "smollm2"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('sources = ["en"]\n', r"'sources' stands before any section; put it below \[experiment\]"),
        ('model = "smollm2"\n', r"'model' stands before any section; put it below \[model\]"),
        ("max-kl = 1\n", r"put it below \[experiment\]"),
        ("sorces = 1\n", r"unknown key 'sorces' before any section; did you mean 'sources'"),
        ("[experimnt]\nseed = 1\n", r"unknown section \[experimnt\]; did you mean 'experiment'"),
        ("experiment = 1\n", r"write \[experiment\] on its own line"),
        ("[experiment]\nmax_kl = 1\nmax-kl = 2\n", r"'max_kl' is set twice in \[experiment\] \('max-kl' is another"),
        ('[model]\nname = "a"\nmodel = "b"\n', r"'model' is set twice in \[model\]"),
        ("[experiment]\nbatch_size = 2\n", r"it belongs to \[model\]"),
        ('{"experiment": {}}', "this is JSON or YAML"),
        ("", "is empty"),
    ],
)
def test_a_file_that_means_something_else_is_told_what(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=words):
        read_file(file)
