"""`refusalctl artifacts push|pull|export|import`: what is shown and refused, and a run that goes on elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from refusalctl.cli.app import app
from refusalctl.errors import BadInput, NotFound
from refusalctl.settings import Machine, Settings
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import verify
from tests.s3 import s3, s3_address
from tests.store.exchange.conftest import contents, other, store

__all__ = ["other", "s3", "s3_address", "store"]


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["artifacts", *(str(each) for each in args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_push_and_pull_print_the_ids_that_were_asked_for(store: Store, other: Store) -> None:
    native = store.resolve("native").id
    assert run("push", other.root, "native", "--store", store.root).stdout.splitlines() == [native]
    third = Store(other.root.with_name("third"))
    assert run("pull", other.root, "selection:", "--store", third.root).stdout.splitlines() == [native]
    assert contents(third) == contents(other)


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(store: Store, other: Store) -> None:
    told = json.loads(run("push", other.root, "--all", "--dry-run", "--json", "--store", store.root).stdout)
    assert (told["bytes"], told["dry_run"]) == (200_450, True)
    assert [each["sent"] for each in told["artifacts"]] == [True] * 4
    assert not other.root.exists()
    run("push", other.root, "native", "--store", store.root)
    told = json.loads(run("push", other.root, "--all", "--json", "--store", store.root).stdout)
    assert {each["kind"]: each["sent"] for each in told["artifacts"]} == {
        "labels": True, "prompts": False, "activations": False, "selection": False
    }  # fmt: skip
    assert told["bytes"] == 50


def test_texts_leave_this_machine_only_on_request(store: Store, s3: str, other: Store) -> None:
    with pytest.raises(BadInput, match=r"1 artifacts hold prompts or answers, .*sent to s3://.*: 1 prompts"):
        run("push", f"{s3}/team", "native", "--store", store.root)
    with pytest.raises(NotFound):
        run("pull", f"{s3}/team", "native", "--store", other.root)
    run("push", f"{s3}/team", "labels", "--store", store.root)  # outcomes alone
    run("push", f"{s3}/team", "native", "--with-texts", "--store", store.root)
    run("push", f"{s3}/team", "native", "--store", store.root)  # nothing is left to send
    run("push", f"file://{other.root}", "native", "--store", store.root)  # a disk of one's own


def test_wrong_calls_are_refused_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    (tmp_path / "home" / "thesis").mkdir(parents=True)
    for args, told in (
        (("push", tmp_path / "x"), "say what is meant"),
        (("push", tmp_path / "x", "native", "--all"), "say what is meant"),
        (("push", store.root, "native"), "is the store itself"),
        (("push", tmp_path / "home", "native"), "holds something else"),
        (("push", tmp_path / "x.tar", "native"), "called as an archive"),
        (("export", tmp_path / "x.zip", "native"), "not called as an archive"),
    ):
        with pytest.raises(BadInput, match=told):
            run(*args, "--store", store.root)
    assert not list(tmp_path.glob("x*"))
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis"]


def test_a_name_that_is_taken_stops_the_push_before_it_begins(store: Store, other: Store) -> None:
    run("push", other.root, "labels", "--store", store.root)
    other.name("native", other.resolve("labels"))
    with pytest.raises(BadInput, match="the name 'native' is taken"):
        run("push", other.root, "native", "--names", "--store", store.root)
    assert [kind for kind, _ in other.folders()] == ["labels"]


def test_lineage_that_is_lost_here_may_be_there(store: Store, other: Store) -> None:
    from refusalctl.disk import remove_tree

    run("push", other.root, "activations", "--store", store.root)
    remove_tree(store.resolve("prompts").path)
    run("push", other.root, "native", "--store", store.root)
    assert verify(other).problems == []
    with pytest.raises(NotFound, match="lacks"):
        run("push", other.root.with_name("third"), "native", "--store", store.root)


def test_export_and_import(store: Store, other: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    run("export", file, "native", "--names", "--store", store.root)
    with pytest.raises(BadInput, match="is there already"):
        run("export", file, "native", "--store", store.root)
    planned = json.loads(run("import", file, "--dry-run", "--json", "--store", other.root).stdout)
    assert planned["bytes"] == 200_400
    assert not other.root.exists()
    told = json.loads(run("import", file, "--names", "--json", "--store", other.root).stdout)
    assert told == {**planned, "dry_run": False, "names": ["native"]}
    assert verify(other).problems == []
    again = json.loads(run("import", file, "--json", "--store", other.root).stdout)
    assert again["bytes"] == 0


ORGANISM = "organism:shared"
CHAIN = Settings.of(
    sources=("qaa",),
    targets=("qaa",),
    data=ORGANISM,
    n_train=8,
    n_val=8,
    n_test=6,
    layers=(2, 3),
    max_new_tokens=4,
    controls=False,
)


def _measure(store: Store, settings: Settings = CHAIN, *, dry_run: bool = False) -> tuple[Artifact, list[str], bool]:
    """The matrix, the steps that had to be computed, and whether the model was loaded."""
    bench = Workbench(store, Machine(ORGANISM, device="cpu", batch_size=32), dry_run=dry_run)
    matrix = measure_transfer(bench.asking(settings))
    return matrix, [line.step for line in bench.plan if not line.done], bool(bench.models)


def test_a_run_goes_on_in_another_place_without_computing_a_step_again(tmp_path: Path, s3: str) -> None:
    """A matrix is pushed to S3, pulled into an empty store on another path, and continued with another language."""
    here, there = Store(tmp_path / "here"), Store(tmp_path / "on" / "another" / "path")
    matrix, steps, _ = _measure(here)
    assert len(steps) > 8
    here.name("matrix", matrix)
    run("push", f"{s3}/team", "matrix", "--names", "--with-texts", "--store", here.root)
    run("pull", f"{s3}/team", "matrix", "--names", "--store", there.root)
    assert verify(there).problems == []
    again, computed, loaded = _measure(there)
    assert (again.id, computed, loaded) == (matrix.id, [], False)
    longer = CHAIN.changed(targets=("qaa", "qab"))
    _, at_home, _ = _measure(here, longer, dry_run=True)
    _, elsewhere, _ = _measure(there, longer, dry_run=True)
    assert sorted(elsewhere) == sorted(at_home)
    assert elsewhere
