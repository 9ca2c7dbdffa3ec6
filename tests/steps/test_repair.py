"""What is damaged or lost is computed again from its recipe, inputs first; what cannot be is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from refusalctl.cli.app import app
from refusalctl.records.printed import PrintedRepairs
from refusalctl.records.rows import Completion
from refusalctl.settings import Machine, Settings
from refusalctl.steps.completions import COMPLETIONS_FILE
from refusalctl.steps.labelling.labels import judge_completions
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.repair import plan_recomputation, recompute
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.artifact import Artifact
from refusalctl.store.damage import Damage
from refusalctl.store.hashing import digest
from refusalctl.store.store import Store
from refusalctl.store.verify import verify


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    store = Store(tmp_path / "store")
    return Workbench(store, Machine("organism:shared", "cpu", "float32"), Settings.of(n_test=3))


@pytest.fixture
def labels(bench: Workbench) -> Artifact:
    """Prompts, answers that nobody could compute again, and labels of them."""
    prompts = draw_prompts(bench, "en", "harmless", "test")
    with bench.store.draft() as out:
        rows = [Completion(i, "en", "harmless", "Here you are.", 3, False).to_json() for i in "abc"]
        formats.write_rows(out / COMPLETIONS_FILE, rows)
        recipe = {"step": "import-completions", "version": 1, "params": {}, "inputs": {"prompts": prompts.id}}
        about = {**prompts.about, "intervention": "none", "provenance": "imported"}
        completions = bench.store.commit(out, "completions", recipe, about, {})
    return judge_completions(bench, completions, "substring")


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])


def of_kind(bench: Workbench, kind: str) -> Artifact:
    (found,) = bench.store.all(kind)
    return found


def repair(bench: Workbench, *more: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["artifacts", "repair", "--store", str(bench.store.root), *more])
    assert done.exit_code == code, done.output
    return done


def test_damaged_and_lost_artifacts_are_computed_again_to_the_same_ids(bench: Workbench, labels: Artifact) -> None:
    prompts = of_kind(bench, "prompts")
    flip(labels.path / "labels.jsonl")
    shutil.rmtree(prompts.path)
    before = {p.damage for p in verify(bench.store).problems}
    assert before == {Damage.CHANGED_BYTES, Damage.MISSING_ARTIFACT, Damage.MISSING_INPUT}
    plan = repair(bench, code=0).stdout.splitlines()
    assert plan == [f"labels/{labels.id[:12]}: computed again", f"prompts/{prompts.id[:12]}: computed again"]
    assert {p.damage for p in verify(bench.store).problems} == before  # a plan changes nothing
    told = msgspec.json.decode(repair(bench, "--yes", "--json").stdout, type=PrintedRepairs)
    assert (told.repaired, told.left, [each.done for each in told.repairs]) == (True, (), [True, True])
    assert verify(bench.store).problems == []


def test_what_was_made_from_a_damaged_one_is_computed_after_it(bench: Workbench, labels: Artifact) -> None:
    prompts = of_kind(bench, "prompts")
    for artifact in (labels, prompts):
        for name in artifact.manifest["files"]:
            flip(artifact.path / name)
    planned, unknown = plan_recomputation(bench.store, verify(bench.store).problems)
    assert ({each.kind for each in planned}, unknown) == ({"labels", "prompts"}, [])
    made = [recompute(bench, each) for each in planned]
    assert [each.problem for each in made] == [None, None]


def test_what_people_brought_stays_and_is_told(bench: Workbench, labels: Artifact) -> None:
    completions = of_kind(bench, "completions")
    file = completions.path / COMPLETIONS_FILE
    flip(file)
    changed = file.read_bytes()
    done = repair(bench, "--yes", code=1)
    assert "needs more than its recipe" in done.stdout
    assert "stays as it is: its bytes were changed" in done.stdout
    assert file.read_bytes() == changed


def test_another_judge_or_version_of_a_step_gives_no_repair(bench: Workbench, labels: Artifact) -> None:
    flip(labels.path / "labels.jsonl")
    (planned,), _ = plan_recomputation(bench.store, verify(bench.store).problems)
    recipe = planned.manifest["recipe"]
    other = {**recipe, "params": {"judge": "substring", "judge_digest": digest("another")}}
    came = recompute(bench, planned._replace(manifest={**planned.manifest, "recipe": other}))
    assert came.artifact is None
    assert "is another now" in str(came.problem)
    with bench.store.draft() as out:
        (out / "labels.jsonl").write_bytes(b"x")
        older = bench.store.commit(out, "labels", {**recipe, "version": 1}, dict(labels.about), {})
    (older.path / "labels.jsonl").write_bytes(b"y")
    planned_again, _ = plan_recomputation(bench.store, verify(bench.store).problems)
    assert [str(each.obstacle)[:9] for each in planned_again if each.id == older.id] == ["version 1"]


def test_bookkeeping_comes_back_without_computing(bench: Workbench, labels: Artifact) -> None:
    bench.store.name("mine", labels)
    (bench.store.root / "names" / "mine").unlink()
    shutil.rmtree(bench.store.root / "recipes" / digest(labels.manifest["recipe"]))
    (labels.path / "manifest.json").write_bytes(b"")
    copied = verify(bench.store).problems
    assert {p.damage for p in copied} >= {Damage.MISSING_NAME, Damage.CHANGED_MANIFEST}
    done = repair(bench, "--yes", code=1)  # manifest and copy are both gone
    assert "no manifest, and no copy of it, says how it was made" in done.stdout
    assert bench.store.names() == {"mine": f"labels/{labels.id}"}
