"""`refusalctl data`: what is printed, where, and that no prompt is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from refusalctl.cli.data import app
from refusalctl.data import sets
from refusalctl.errors import BadInput, DataError


def call(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments: object) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_fetch_and_ls(tree, publish):
    folder = publish(tree)
    before = as_json("ls")
    assert [(s["name"], s["fetched"]) for s in before[:2]] == [("sample", True), ("polyrefuse", False)]
    assert {(s["fetched"], s["licence"] is None) for s in before[2:]} == {(False, False)}  # published sets by name
    assert "data fetch" in call("ls").stderr
    assert as_json("fetch", "--from", folder) == {
        "files": 12, "new": 12, "rows": {"de": 72, "en": 72}, "name": "polyrefuse", "unverified": []
    }  # fmt: skip
    counts = as_json("ls")[1]["languages"][0]
    assert counts["lang"] == "de"
    assert counts["counts"]["harmful"]["test"] == {"rows": 12, "usable": 12}
    assert "polyrefuse  de " in call("ls").stdout


def test_audit_prints_counts_and_no_prompt(tree, fetched):
    tree.files[tree.path("de", "harmless", "val")].sort(key=lambda row: row["instruction"].partition("über")[2])
    fetched(tree)
    shown = call("audit", "--data", "polyrefuse")
    assert shown.exit_code == 0
    assert "not aligned" in shown.stdout
    assert "letter number" not in shown.stdout + shown.stderr
    report = as_json("audit", "--data", "polyrefuse", "--lang", "de,en")
    assert [f["langs"] for f in report["findings"] if f["about"] == "not aligned"] == [["de"]]
    assert report["sets"][0]["identified"]["share"] == 1.0
    assert {s["lang"] for s in as_json("audit", "--lang", "ba", "--lang", "be")["sets"]} == {"ba", "be"}


def test_audit_of_an_unfetched_set_says_what_to_run():
    with pytest.raises(DataError, match="data fetch"):
        call("audit", "--data", "polyrefuse")


def test_add_then_use(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("text,id\nНан туралы жаз.,a\nТеңіз туралы жаз.,b\n", encoding="utf-8")
    shown = call("add", path, "--lang", "kk", "--kind", "harmful", "--split", "test", "--name", "mine")
    assert Path(shown.stdout.strip()) == sets.own_dir() / "mine" / "kk.jsonl"
    assert "2 added" in shown.stderr
    assert len(sets.draw("mine", ["kk"], "harmful", "test", 2, 0)) == 2
    with pytest.raises(DataError, match="--replace"):
        call("add", path, "--lang", "kk", "--kind", "harmful", "--split", "test", "--name", "mine")
    again = as_json("add", path, "--lang", "kk", "--kind", "harmful", "--split", "test", "--name", "mine", "--replace")
    assert again["languages"]["kk"]["replaced"] == 2
    assert again["file"]["columns"] == {"kk": "text"}


def test_translate_from_a_file(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"id": p.id, "text": p.text} for p in sets.prompts("sample", "ba")][:60]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    arguments = ("translate", "--to", "ba", "--translator", f"file:{path}", "--kind", "harmful", "--n", 12)
    shown = call(*arguments)
    assert "22 prompts of ba" in shown.stderr
    assert "14 prompts have no translation and are left out" in shown.stderr
    assert rows[0]["text"] not in shown.output
    assert as_json(*arguments)["added"] == 0


@pytest.mark.parametrize("arguments", [("add", "x.csv", "--lang", "kk", "--kind", "evil"), ("add",), ("translate",),
                                       ("translate", "--to", "kk", "--translator", "google", "--split", "dev"),
                                       ("fetch", "--from", "/no/such/folder")])  # fmt: skip
def test_wrong_usage_exits_2(arguments):
    assert call(*arguments).exit_code == 2


def test_a_request_is_checked_before_the_translator_is_opened():
    with pytest.raises(BadInput, match="English"):
        call("translate", "--to", "en", "--translator", "nllb:none")


def test_every_command_has_help():
    shown = call("--help").stdout
    for command in ("fetch", "ls", "audit", "add", "translate"):
        assert command in shown
        assert call(command, "--help").exit_code == 0
