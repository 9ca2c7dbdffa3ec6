"""`refusalctl artifacts` in a pipe, and on two models of one name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from refusalctl.cli.artifacts import app
from refusalctl.store.store import Artifact, Store

REVISIONS = ("files-11111111" + "a" * 56, "files-22222222" + "b" * 56)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add(store: Store, revision: str, **about: object) -> Artifact:
    """Directions of a model; one recipe per revision and what it is about."""
    with store.draft() as out:
        (out / "rows.bin").write_bytes(b"x")
        model = {"name": "tiny", "revision": revision, "dtype": "float32"}
        recipe = {"step": "extract", "version": 1, "params": about, "inputs": {}, "model": model}
        return store.commit(out, "directions", recipe, {"model": "tiny", "lang": "en", **about}, {})


def run(store: Store, *args: str, **env: str) -> Result:
    result = CliRunner().invoke(app, [*args, "--store", str(store.root)], env=env)
    assert result.exit_code == 0, result.output
    return result


def test_show_in_a_pipe_wraps_nothing_and_keeps_brackets(store: Store) -> None:
    long = "a system prompt of many words, " * 20 + "end"
    bracketed = "[1, 2] [bold red]no markup[/bold red] [/] \\[x] :smile:"
    found = add(store, REVISIONS[0], system=long, note=bracketed)
    for columns in ("40", "200"):
        lines = run(store, "show", found.id, COLUMNS=columns).stdout.splitlines()
        assert sum(line.endswith(f"system: {long}") for line in lines) == 1
        assert sum(line.endswith(f"note: {bracketed}") for line in lines) == 1
        assert sum(found.id in line for line in lines) == 1


def test_show_keeps_lines_one_line_each(store: Store) -> None:
    found = add(store, REVISIONS[0], note="first\nsecond\x1b[31m")
    out = run(store, "show", found.id).stdout
    assert "note: first\\nsecond\\x1b[31m" in out


def test_two_models_of_one_name_are_told_apart_in_lists_and_queries(store: Store) -> None:
    made = [add(store, revision) for revision in REVISIONS]
    names = ["tiny@11111111", "tiny@22222222"]
    rows = run(store, "ls").stdout.splitlines()
    assert [[name for name in names if name in row] for row in rows[1:]] == [[names[0]], [names[1]]]
    for artifact, name in zip(made, names, strict=True):
        for query in (f"directions:model={name}", f"directions:revision={name[5:]},model=tiny"):
            assert json.loads(run(store, "show", query, "--json").stdout)["id"] == artifact.id
    many = CliRunner().invoke(app, ["show", "directions:model=tiny", "--store", str(store.root)])
    assert many.exit_code == 1
    assert "tiny@" not in run(store, "ls", "--json").stdout  # data says what is recorded


def test_one_model_goes_by_its_name_alone(store: Store) -> None:
    add(store, REVISIONS[0])
    add(store, REVISIONS[0], lang="ba")
    assert "tiny@" not in run(store, "ls").stdout
