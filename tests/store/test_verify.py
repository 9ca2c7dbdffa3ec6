"""Looking at a whole store: emptiness is no health, existence no wholeness, and what is not ours is left alone."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from refusalctl.errors import BadInput, Corrupt, NotFound
from refusalctl.store import formats, removal
from refusalctl.store.cache import TextCache
from refusalctl.store.damage import Damage
from refusalctl.store.garbage import Leftovers, garbage, left_behind, remove, stale_marks, sweep
from refusalctl.store.hashing import digest
from refusalctl.store.listing import listing
from refusalctl.store.mend import mend
from refusalctl.store.store import MANIFEST, Artifact, Store
from refusalctl.store.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, params: object = 1, kind: str = "labels", step: str = "test", **inputs: str) -> Artifact:
    recipe = {"step": step, "version": 1, "params": params, "inputs": inputs}
    with store.draft() as draft:
        (draft / "data.bin").write_bytes(b"payload")
        return store.commit(draft, kind, recipe, {"lang": "ba", "data": "sample"}, {})


def test_a_store_that_is_not_there_and_a_kind_that_is_none_are_errors(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no store"):
        verify(store)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(NotFound, match="is no artifact store"):
        verify(Store(tmp_path / "other"))
    put(store)
    with pytest.raises(BadInput, match="did you mean selection"):
        verify(store, "selectoin")


def test_a_folder_without_its_manifest_is_named_and_healed_by_the_next_run(store: Store) -> None:
    artifact = put(store)
    (artifact.path / MANIFEST).unlink()
    (problem,) = verify(store).problems
    assert problem.where == artifact.label
    assert "interrupted copy" in problem.what
    assert store.find(digest(artifact.manifest["recipe"])) is None
    assert put(store).id == artifact.id
    assert store.resolve(artifact.id[:10]).id == artifact.id
    assert verify(store).problems == []


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_result_without_its_files_is_no_result_and_is_replaced(store: Store, damage: str) -> None:
    artifact = put(store)
    file, key = artifact.path / "data.bin", digest(artifact.manifest["recipe"])
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"pay")
    assert store.find(key) is None
    assert "data.bin" in store.damaged(key)[0]
    put(store)
    assert file.read_bytes() == b"payload"
    assert not list((store.root / "tmp").iterdir())


def test_a_removed_kind_of_inputs_is_a_broken_lineage(store: Store) -> None:
    first = put(store, kind="prompts")
    second = put(store, made_from=first.id)
    shutil.rmtree(store.root / "prompts")
    problem, gone = verify(store).problems
    assert problem.where == second.label
    assert f"the prompts {first.id[:12]} that it gave is gone" in gone.what
    assert f"its made_from {first.id[:12]}, which it was made from, is not in the store" in problem.what


def test_an_artifact_that_is_gone_without_a_trace_is_missed_by_its_recipe(store: Store) -> None:
    artifact = put(store)
    key = digest(artifact.manifest["recipe"])
    shutil.rmtree(artifact.path)
    (problem,) = verify(store).problems
    assert problem.where == f"recipes/{key[:12]}/{artifact.id[:12]}"
    assert f"the labels {artifact.id[:12]} that it gave is gone" in problem.what
    assert verify(store, "prompts").problems == []
    assert stale_marks(store, 60) == []  # young: a copy may still bring what it marks
    sweep(store, [], Leftovers(marks=stale_marks(store)))
    assert verify(store).problems == []
    removal.plan(store, [put(store).id]).carry_out(store)
    assert verify(store).problems == []


def test_files_of_other_programs_are_named_and_hinder_nothing(store: Store) -> None:
    artifact = put(store)
    store.name("mine", artifact)
    places = (
        store.root,
        store.root / "labels",
        artifact.path,
        store.root / "names",
        artifact.path.parent.parent / "recipes",
    )
    for place in places:
        (place / ".DS_Store").write_bytes(b"\0")
        (place / ".ipynb_checkpoints").mkdir()
    key = digest(artifact.manifest["recipe"])
    (store.root / "recipes" / key / ".DS_Store").write_bytes(b"\0")
    found = verify(store)
    assert found.problems == []
    assert f"labels/{artifact.id}/.DS_Store" in found.foreign
    store.check(artifact)
    assert store.find(key) is not None
    assert store.names() == {"mine": f"labels/{artifact.id}"}
    assert garbage(store) == []


def test_the_order_of_two_results_survives_a_copy(store: Store) -> None:
    recipe = {"step": "test", "version": 1, "params": 1, "inputs": {}}
    made = []
    for content in (b"one", b"two", b"three"):
        with store.draft() as draft:
            (draft / "data.bin").write_bytes(content)
            made.append(store.commit(draft, "labels", recipe, {}, {}))
    for age, artifact in enumerate(made):
        for file in (artifact.path / MANIFEST, store.root / "recipes" / digest(recipe) / artifact.id):
            os.utime(file, (5000 - age, 5000 - age))
    assert [a.id for a in store.results(digest(recipe))] == [a.id for a in made]
    assert [a.id for a in store.all()] == [a.id for a in made]


def test_one_damaged_manifest_is_told_of_and_the_rest_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path / "store", told.append)
    needed = put(store, kind="prompts")
    damaged, good = put(store, 2, made_from=needed.id), put(store, 3)
    (damaged.path / MANIFEST).write_bytes((damaged.path / MANIFEST).read_bytes()[:-9])
    assert store.resolve("labels:lang=ba").id == good.id
    assert len(told) == 1
    assert damaged.id in told[0]
    assert needed.id not in {a.id for a in garbage(store)}  # the damaged one mentions it
    assert len(verify(store).problems) == 1


@pytest.mark.parametrize(
    ("kind", "step"), [("sample", "sample"), ("labels", "human-labels"), ("labels", "import-labels")]
)
def test_gc_keeps_what_people_made_and_all_that_it_needs(store: Store, kind: str, step: str) -> None:
    needed = put(store, kind="completions")
    made = put(store, 2, kind, step, completions=needed.id)
    orphan = put(store, 3)
    for artifact in store.all():
        os.utime(artifact.path / MANIFEST, (0, 0))
    assert {a.id for a in garbage(store)} == {orphan.id}
    assert made.id != orphan.id


def test_gc_keeps_what_a_computation_in_progress_needs(store: Store) -> None:
    artifact = put(store)
    assert [a.id for a in garbage(store)] == [artifact.id]
    with store.partial("k", [artifact.id]):
        assert garbage(store) == []


def test_what_two_delete_at_once_is_deleted_and_nobody_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = put(store), put(store, 2), put(store, 3)
    unneeded, plan = garbage(store), removal.plan(store, [two.id])
    remove(store, one.kind, one.id)
    with pytest.raises(NotFound, match="another process removed it"):
        remove(store, one.kind, one.id)
    sweep(store, unneeded, left_behind(store))  # as planned before
    plan.carry_out(store)
    assert store.ids() == []
    monkeypatch.setattr(Store, "all", lambda _store, _kind=None: [three])
    assert garbage(store, 60.0) == []  # gone while it was looked at


def test_rm_refuses_dependants_and_names_unless_asked(store: Store) -> None:
    first = put(store, kind="prompts")
    second = put(store, 2, made_from=first.id)
    store.name("kept", second)
    plan = removal.plan(store, [first.id[:12]])
    assert [line.id for line in plan.dependants] == [second.id]
    with pytest.raises(BadInput, match="1 artifacts were made from it"):
        plan.check(dependants=False, names=True)
    with pytest.raises(BadInput, match="named kept"):
        plan.check(dependants=True, names=False)
    plan.check(dependants=True, names=True)
    plan.carry_out(store)
    assert store.folders() == []
    assert store.names() == {}


FORMS = (
    "sha256:{id}",
    "labels/{id}",
    "labels/sha256:{id}",
    "{root}/labels/{id}",
    "{root}/labels/{id}/run.json",
    "{up}",
)


@pytest.mark.parametrize("form", FORMS)
def test_references_in_the_forms_that_people_paste(store: Store, form: str) -> None:
    artifact = put(store)
    asked = form.format(id=artifact.id, root=store.root, up=artifact.id[:9].upper())
    assert store.resolve(asked).id == artifact.id


@pytest.mark.parametrize(
    "name",
    ["n" * 300, "a\nb", " outer", "outer ", "a/b", "a\\b", "-x", "tab\tx", "con", "x.", "a,b", "x@1", "~x", "a\x00"],
)
def test_names_that_some_file_system_could_not_keep_are_refused(store: Store, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be a name"):
        store.name(name, put(store))


def test_names_that_differ_only_in_case_or_in_how_accents_are_written(store: Store) -> None:
    artifact = put(store)
    store.name("caf\u00e9", artifact)
    assert store.resolve("cafe\u0301").id == artifact.id
    with pytest.raises(BadInput, match="differ only in case"):
        store.name("Caf\u00e9", artifact)
    store.name("caf\u00e9", artifact)  # the same name may move


def test_colleagues_can_read_and_replace_everything(store: Store) -> None:
    old = os.umask(0o002)
    try:
        with store.draft() as draft:
            formats.write_vectors(draft / "directions.safetensors", "directions", {"a": torch.ones(2)}, {})
            shape = formats.ActivationShape(1, 1, 1, 2)
            with formats.write_activations(draft / "a.h5", shape, {}) as writer:
                writer.put([0], torch.ones(1, 1, 1, 2).numpy())
            artifact = store.commit(draft, "directions", {"inputs": {}}, {}, {})
        store.name("mine", artifact)
    finally:
        os.umask(old)
    wrong = {p: oct(stat.S_IMODE(p.stat().st_mode)) for p in store.root.rglob("*") if p.stat().st_mode & 0o060 != 0o060}
    assert wrong == {}


def test_a_lineage_is_looked_at_alone_also_where_it_is_damaged(store: Store) -> None:
    needed = put(store, kind="prompts")
    made, other = put(store, 2, made_from=needed.id), put(store, 3)
    for artifact in (needed, other):
        (artifact.path / "data.bin").write_bytes(b"PAYLOAD")
    found = verify(store, lineage=made.id[:12])
    assert (found.checked, [p.artifact for p in found.problems]) == (2, [("prompts", needed.id)])
    (made.path / MANIFEST).unlink()
    assert {p.damage for p in verify(store, lineage=made.id[:12]).problems} == {
        Damage.MISSING_MANIFEST,
        Damage.CHANGED_BYTES,
    }


def test_progress_is_told_per_folder(store: Store) -> None:
    put(store), put(store, 2)
    told: list[int] = []

    def watched(total: int) -> Callable[[], None]:
        told.append(-total)
        return lambda: told.append(1)

    assert verify(store, watched=watched).checked == 2
    assert told == [-2, 1, 1]


def test_an_artifact_in_the_folder_of_another_kind_is_named(store: Store) -> None:
    artifact = put(store)
    (store.root / "scores").mkdir()
    artifact.path.rename(store.root / "scores" / artifact.id)
    with pytest.raises(Corrupt):
        store.open("scores", artifact.id)
    assert Damage.WRONG_KIND in {p.damage for p in verify(store).problems}


def test_bytes_of_a_manifest_that_say_the_same_are_damage_too(store: Store) -> None:
    manifest = put(store).path / MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert Damage.CHANGED_MANIFEST in {p.damage for p in verify(store).problems}


def test_what_may_be_forgotten_must_not_lie(store: Store) -> None:
    """A translation and a row of unfinished work that rotted would become a wrong result: they are not read."""
    put(store)
    cache = TextCache(store, "translations", "key")
    cache.add({"a": "one", "b": "two"})
    listing(store)
    rows = store.root / "partial" / "k" / "rows.jsonl"
    rows.parent.mkdir(parents=True)
    formats.append_rows(rows, [{"text": "three"}, {"text": "four"}])
    assert verify(store).problems == []
    for file, old in ((cache.path, b"two"), (rows, b"four"), (store.root / "cache" / "listing.json", b"ba")):
        file.write_bytes(file.read_bytes().replace(old, old.upper()))
    problems = verify(store).problems
    assert [p.damage for p in problems] == [Damage.CHANGED_CACHE] * 3
    assert cache.read() == {"a": "one"}
    assert formats.read_finished_rows(rows) == [{"text": "three"}]
    mend(store, problems)
    assert verify(store).problems == []
    assert cache.read() == {"a": "one"}
