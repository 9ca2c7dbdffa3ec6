"""`refusalctl artifacts export --format` and `log-to`: what is written, shown and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from refusalctl.cli.app import app
from refusalctl.errors import BadInput
from tests.steps.interop.world import SECRET, answers_store, directions_store


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_a_direction_goes_through_another_tools_file_into_another_store(tmp_path: Path) -> None:
    store, chosen = directions_store(tmp_path / "a", torch.ones(8), layer=2, n_layers=4)
    file = tmp_path / "d.gguf"
    args = ("artifacts", "export", file, "selection:", "--format", "gguf", "--store", store.root)
    with pytest.raises(BadInput, match="names its model's architecture"):
        run(*args)
    told = json.loads(run(*args, "--model-hint", "llama", "--json").stdout)
    assert told == {"format": "gguf", "dry_run": False, "artifacts": [chosen.id], "files": [str(file)]}
    with pytest.raises(BadInput, match="is there already"):
        run(*args, "--model-hint", "llama")
    assert len(run("import", file, "--store", tmp_path / "b").stdout.splitlines()) == 1
    assert "layer 2" in run("artifacts", "show", "selection:", "--store", tmp_path / "b").output


def test_rows_are_written_without_texts_and_shown_never(tmp_path: Path) -> None:
    store, _artifacts = answers_store(tmp_path / "a")
    args = ("artifacts", "export", tmp_path / "set", "completions:", "labels:", "--format", "dataset")
    planned = run(*args, "--dry-run", "--store", store.root)
    assert not (tmp_path / "set").exists()
    shown = run(*args, "--store", store.root)
    written = "".join(p.read_text() for p in (tmp_path / "set").rglob("*") if p.is_file())
    assert SECRET not in planned.output + shown.output + written
    assert len(shown.stdout.splitlines()) == 4


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    store, _artifacts = answers_store(tmp_path / "a")
    export = ("artifacts", "export", tmp_path / "x", "labels:")
    assert "--format takes archive" in run(*export, "--format", "onnx", "--store", store.root, code=2).output
    run(*export, "--format", "dataset", "--names", "--store", store.root, code=2)
    run("artifacts", "log-to", "tensorboard", "labels:", "--store", store.root, code=2)
    with pytest.raises(BadInput, match="is no single direction"):
        run(*export, "--format", "safetensors", "--store", store.root)
    with pytest.raises(BadInput, match="expected labels, selection, transfer"):
        run("artifacts", "log-to", "mlflow", "completions:", "--store", store.root)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("form", "option", "able"),
    [
        ("gguf", ("--with-texts",), "dataset, dataset-parquet, inspect"),
        ("dataset", ("--coeff", "2"), "safetensors, gguf"),
        ("netcdf", ("--license", "mit"), "dataset"),
        ("safetensors", ("--model-hint", "llama"), "gguf"),
        ("archive", ("--pos", "-1"), "safetensors"),
        ("inspect", ("--names",), "archive"),
    ],
)
def test_an_option_that_means_nothing_in_a_format_is_no_option(
    tmp_path: Path, form: str, option: tuple[str, ...], able: str
) -> None:
    asked = run("artifacts", "export", tmp_path / "x", "selection:", "--format", form, *option, code=2)
    said = " ".join(asked.output.replace("│", " ").split())
    assert f"{option[0]} means nothing with --format {form}" in said
    assert f"it is for {able}" in said
    assert not (tmp_path / "x").exists()
