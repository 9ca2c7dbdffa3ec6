"""What `--json` prints is what its schema says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from refusalctl.cli.app import main
from refusalctl.records import audit, printed, printed_checks, printed_prompts
from refusalctl.store.store import Store
from tests.golden.make import STORE

MODEL = ("--data", "organism:shared", "--model", "organism:shared")


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def call(*args: str, code: int = 0) -> Any:
        monkeypatch.setattr("sys.argv", ["refusalctl", *args, "--json"])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert (stopped.value.code or 0) == code
        return json.loads(capsys.readouterr().out)

    return call


def test_documents_are_those_of_the_schemas(document: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(STORE, tmp_path / "golden")
    golden = ("--store", str(tmp_path / "golden"))
    listed = msgspec.convert(document("artifacts", "ls", *golden), list[printed.ListedArtifact])
    assert {(a.kind, a.id) for a in listed} == set(Store(STORE).ids())
    found = msgspec.convert(document("artifacts", "path", listed[0].id, *golden), printed.PrintedPath)
    assert found.id == listed[0].id
    whole = msgspec.convert(document("artifacts", "verify", *golden, code=1), printed.Verified)
    assert (whole.checked, whole.foreign) == (len(listed), ())
    # one artifact of each kind is kept of a larger store
    assert {problem.what.rpartition(" ")[2] for problem in whole.problems} == {"store", "again"}
    named = msgspec.convert(document("artifacts", "name", "first", listed[0].id, *golden), printed.PrintedName)
    assert named == printed.PrintedName("first", listed[0].id)
    next((tmp_path / "golden" / "prompts").rglob("prompts.jsonl")).write_text("{}")
    damaged = msgspec.convert(document("artifacts", "verify", *golden, code=1), printed.Verified)
    assert len(damaged.problems) == len(whole.problems) + 1
    planned_removal = msgspec.convert(
        document("artifacts", "rm", "first", "--names", "--dependants", *golden), printed.PrintedRemoval
    )
    assert not planned_removal.removed
    assert listed[0].id in planned_removal.ids
    own = ("--store", str(tmp_path / "own"))
    settings = msgspec.convert(document("extract", "--lang", "qaa", *MODEL, "--explain"), list[printed.PrintedSetting])
    assert ("data", "organism:shared", "flag") in {(s.setting, str(s.value), s.origin) for s in settings}
    planned = document("extract", "--lang", "qaa", *MODEL, *own, "--dry-run")
    assert not any(step.done for step in msgspec.convert(planned, printed.PrintedPlan).plan)
    costed = document("transfer", "--sources", "qaa", "--targets", "qaa", *MODEL, *own, "--dry-run")
    assert msgspec.convert(costed, printed.PrintedPlan).cost is not msgspec.UNSET
    made = msgspec.convert(
        document("collect", "--lang", "qaa", "--n", "2", "--kind", "harmful", "--split", "train", *MODEL, *own),
        printed.PrintedResult,
    )
    assert made.kind == "activations"
    assert Path(made.path).is_dir()


def test_documents_about_prompts_judges_and_the_machine_are_those_of_the_schemas(
    document: Callable[..., Any], tmp_path: Path
) -> None:
    checked = document("doctor", "--model", "organism:shared", "--store", str(tmp_path))
    assert msgspec.convert(checked, printed_checks.PrintedDoctor).store.ok
    listed = msgspec.convert(document("data", "ls"), list[printed_prompts.ListedPrompts])
    assert listed[0].languages[0].counts["harmful"]["test"].usable > 0
    audited = msgspec.convert(document("data", "audit", "--lang", "ba"), audit.Audit)
    assert {each.lang for each in audited.sets} == {"ba"}
    judges = msgspec.convert(document("judge", "--list"), list[printed.ListedJudge])
    assert "substring" in {each.name for each in judges}
    planned = document("calibrate", "plane", "--dry-run", "--quick", "--store", str(tmp_path))
    assert {each.design for each in msgspec.convert(planned, list[printed.PlannedTrial])} == {"plane"}


def test_documents_about_stored_artifacts_are_those_of_the_schemas(
    document: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copytree(STORE, tmp_path / "golden")
    golden = ("--store", str(tmp_path / "golden"))
    for kind, identifier in Store(STORE).ids():
        shown = msgspec.convert(document("artifacts", "show", identifier, *golden), printed.ShownArtifact)
        assert (shown.kind, shown.id) == (kind, identifier)
        assert shown.run is not None
    plan = msgspec.convert(document("artifacts", "gc", "--keep-hours", "0", *golden), printed.Collected)
    assert isinstance(plan.would_remove, tuple)
    assert plan.removed is msgspec.UNSET
    done = msgspec.convert(document("artifacts", "gc", "--yes", "--keep-hours", "0", *golden), printed.Collected)
    assert done == printed.Collected(plan.bytes, removed=plan.would_remove)
