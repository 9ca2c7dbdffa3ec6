"""The store's promises, checked by reading its files directly rather than through it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from refusalctl import locks
from refusalctl.errors import Ambiguous, BadInput, Corrupt, NotFound, StoreError
from refusalctl.processes import me
from refusalctl.store import formats, garbage
from refusalctl.store.artifact import Problem
from refusalctl.store.damage import Damage
from refusalctl.store.drafts import leftovers
from refusalctl.store.hashing import canonical, digest
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(
    store: Store,
    content: bytes = b"payload",
    *,
    kind: str = "labels",
    params: object = 1,
    about: dict[str, str] | None = None,
    **inputs: str,
) -> Artifact:
    recipe = {"step": "test", "version": 1, "params": params, "inputs": inputs}
    with store.draft() as draft:
        (draft / "data.bin").write_bytes(content)
        return store.commit(draft, kind, recipe, {"lang": "ba", "n": 3} | (about or {}), {"seconds": 1.0})


def problems(store: Store) -> list[Problem]:
    return verify(store).problems


def test_the_id_is_the_digest_of_the_manifest_on_disk(store: Store) -> None:
    artifact = put(store)
    raw = (store.root / "labels" / artifact.id / "manifest.json").read_bytes()
    assert sha256(raw).hexdigest() == artifact.id
    facts = json.loads(raw)["files"]["data.bin"]
    assert facts == {"bytes": 7, "sha256": sha256(b"payload").hexdigest()}


def test_what_happened_while_computing_does_not_change_the_id(store: Store, tmp_path: Path) -> None:
    first = put(store)
    other = Store(tmp_path / "other")
    with other.draft() as draft:
        (draft / "data.bin").write_bytes(b"payload")
        second = other.commit(draft, "labels", first.manifest["recipe"], first.about, {"seconds": 99.0, "device": "x"})
    assert second.id == first.id


@pytest.mark.parametrize("change", [{"step": "other"}, {"version": 2}, {"params": 2}, {"inputs": {"a": "b"}}])
def test_each_field_of_a_recipe_changes_its_key(change: dict[str, object]) -> None:
    recipe = {"step": "test", "version": 1, "params": 1, "inputs": {}}
    assert digest(recipe) != digest(recipe | change)


def test_key_order_does_not_change_a_key_and_nan_has_none() -> None:
    assert canonical({"a": 1, "b": [2]}) == canonical({"b": [2], "a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        canonical({"a": float("nan")})


def test_a_finished_recipe_is_found_and_an_unknown_one_is_not(store: Store) -> None:
    artifact = put(store)
    found = store.find(digest(artifact.manifest["recipe"]))
    assert found is not None
    assert found.id == artifact.id
    assert store.find("0" * 64) is None


def test_the_same_recipe_with_another_result_is_kept_beside_the_first(store: Store) -> None:
    first, second = put(store, b"one"), put(store, b"two")
    assert [a.id for a in store.results(digest(first.manifest["recipe"]))] == [first.id, second.id]


def test_writing_an_artifact_twice_succeeds_and_keeps_the_first_files(store: Store) -> None:
    first = put(store)
    written = (first.path / "run.json").stat().st_mtime_ns
    second = put(store)
    assert second.id == first.id
    assert (first.path / "run.json").stat().st_mtime_ns == written
    assert not list((store.root / "tmp").iterdir())


def test_an_exception_leaves_no_draft_and_no_artifact(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.draft() as draft:
        (draft / "data.bin").write_bytes(b"half")
        raise KeyboardInterrupt
    assert not list((store.root / "tmp").iterdir())
    assert store.ids() == []


def _write_slowly(root: str, ready: str) -> None:
    store = Store(Path(root))
    with store.draft() as draft:
        (draft / "data.bin").write_bytes(b"x" * 1000)
        Path(ready).write_text("now")
        time.sleep(60)


def test_a_killed_writer_leaves_no_artifact_and_its_draft_is_a_leftover(store: Store, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    writer = multiprocessing.get_context("spawn").Process(target=_write_slowly, args=(str(store.root), str(ready)))
    writer.start()
    while not ready.exists():
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert store.ids() == []
    assert len(leftovers(store.root)) == 1
    assert put(store).id


def test_verify_finds_every_changed_byte_and_deletes_nothing(store: Store) -> None:
    artifact = put(store, bytes(range(40)))
    path = artifact.path / "data.bin"
    for index in range(40):
        content = bytearray(range(40))
        content[index] ^= 1
        path.write_bytes(content)
        assert [p.what for p in problems(store)] == ["its bytes were changed"]
    path.write_bytes(b"short")
    assert "5 bytes, expected 40" in problems(store)[0].what
    path.unlink()
    assert problems(store)[0].what == "the file is missing"
    assert artifact.path.is_dir()


@pytest.mark.parametrize("file", ["manifest.json", "run.json"])
def test_verify_finds_a_changed_manifest_and_a_changed_run_record(store: Store, file: str) -> None:
    artifact = put(store)
    path = artifact.path / file
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    assert len(problems(store)) == 1


def test_verify_finds_unknown_files_and_dangling_names(store: Store) -> None:
    artifact = put(store)
    store.name("mine", artifact)
    (artifact.path / "extra.txt").write_text("?")
    assert "does not know" in problems(store)[0].what
    shutil.rmtree(artifact.path)
    gone, dangling = problems(store)
    assert (gone.damage, dangling.damage) == (Damage.MISSING_ARTIFACT, Damage.DANGLING_NAME)
    assert "is not there" in dangling.what


def test_a_changed_manifest_is_not_opened(store: Store) -> None:
    artifact = put(store)
    path = artifact.path / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"ba"', b'"en"'))
    with pytest.raises(Corrupt, match="was changed"):
        store.open("labels", artifact.id)


def test_an_unknown_format_version_names_itself(store: Store) -> None:
    artifact = put(store)
    manifest = json.loads((artifact.path / "manifest.json").read_bytes()) | {"version": 9}
    (artifact.path / "manifest.json").write_bytes(canonical(manifest))
    with pytest.raises(Corrupt, match="version 9"):
        store.open("labels", artifact.id)


def test_references_full_id_prefix_name_query(store: Store) -> None:
    artifact = put(store)
    store.name("ba-native", artifact)
    for reference in (artifact.id, artifact.id[:8], f"labels/{artifact.id[:8]}", "ba-native", "labels:lang=ba"):
        assert store.resolve(reference).id == artifact.id
    with pytest.raises(NotFound, match="no artifact answers"):
        store.resolve("ffff")
    with pytest.raises(NotFound, match="named 'nobody'"):
        store.resolve("nobody")
    with pytest.raises(BadInput, match="expected selection"):
        store.resolve("ba-native", "selection")
    with pytest.raises(BadInput, match="not a kind"):
        store.resolve("things:lang=ba")


def test_a_kind_alone_is_its_only_artifact(store: Store) -> None:
    made = put(store)
    assert store.resolve(made.kind).id == made.id


def test_a_query_takes_a_language_in_any_spelling(store: Store) -> None:
    made = put(store, about={"lang": "zh-TW", "direction_lang": "be"})
    put(store, params=2, about={"lang": "zh", "direction_lang": "be"})
    for query in ("labels:lang=zh_TW", "labels:lang=ZH-tw", "labels:lang=zh_tw,direction_lang=bel"):
        assert store.resolve(query).id == made.id
    with pytest.raises(BadInput, match=r"'by' is no language code; did you mean 'be' \(Belarusian\)\?"):
        store.resolve("labels:lang=by")
    with pytest.raises(NotFound, match="no artifact answers"):
        store.resolve("labels:lang=ru")
    old = put(store, params=3, about={"lang": "Belarusian"})  # as an earlier version let it pass
    assert store.resolve("labels:lang=Belarusian").id == old.id


def test_an_ambiguous_reference_lists_its_candidates(store: Store) -> None:
    first, second = put(store, params=1), put(store, params=2)
    with pytest.raises(Ambiguous) as caught:
        store.resolve("labels:lang=ba")
    assert set(caught.value.candidates) == {first.label, second.label}


@pytest.mark.parametrize("name", ["", "a/b", "abc", "x:y", ".hidden"])
def test_a_name_that_could_be_an_id_or_a_path_is_refused(store: Store, name: str) -> None:
    with pytest.raises(BadInput):
        store.name(name, put(store))


def test_gc_keeps_what_a_name_needs_through_all_generations(store: Store) -> None:
    root = put(store, params="root")
    child = put(store, params="child", made_from=root.id)
    orphan = put(store, params="orphan")
    store.name("keep", child)
    assert [a.id for a in garbage.garbage(store)] == [orphan.id]
    garbage.sweep(store, garbage.garbage(store), garbage.left_behind(store))
    assert {i for _, i in store.ids()} == {root.id, child.id}
    assert problems(store) == []
    assert store.find(digest(orphan.manifest["recipe"])) is None


def test_an_interrupted_computation_keeps_its_partial_work_and_a_finished_one_does_not(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.partial("k") as folder:
        (folder / "rows").write_text("1")
        raise KeyboardInterrupt
    with store.partial("k") as folder:
        assert (folder / "rows").read_text() == "1"
    with store.partial("k") as folder:
        assert not list(folder.iterdir())


def test_rows_of_a_lease_that_was_lost_are_left_to_its_new_owner(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with store.partial("k") as folder:
        folder.with_suffix(".lock").write_text(json.dumps({"owner": asdict(me()), "claim": "another"}))
        time.sleep(0.3)
    assert folder.is_dir()
    assert folder.with_suffix(".lock").exists()


def test_a_file_where_the_store_should_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"), Store(tmp_path / "file").draft():
        pass


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="the disk is full"):
        put(store)
    assert store.ids() == []
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def full_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Files of a name lie on a disk that is full: the kernel's own answer."""
    real = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        if self.name != name or "w" not in mode:
            return real(self, mode, *args, **more)
        real(self, "wb").close()
        return real(Path("/dev/full"), mode, *args, **more)

    monkeypatch.setattr(Path, "open", opened)


def test_rows_on_a_full_disk_are_one_clear_line_and_leave_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        with store.draft() as out:
            formats.write_rows(out / "rows.jsonl", ({"id": str(i), "text": "x" * 100} for i in range(1000)))
            store.commit(out, "labels", {"step": "judge"}, {}, {})

    with monkeypatch.context() as patch:
        full_for(patch, "rows.jsonl")
        with pytest.raises(StoreError, match="the disk is full"):
            write()
    assert store.ids() == []
    assert not list((store.root / "tmp").iterdir())
    write()
    assert len(store.ids()) == 1


def test_an_unwritable_store_is_one_clear_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, *_args: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(StoreError, match="permission denied"), store.draft():
        pass


def test_an_unrelated_missing_permission_is_not_blamed_on_the_store(store: Store) -> None:
    with pytest.raises(PermissionError), store.draft():
        raise PermissionError(13, "Permission denied", "elsewhere/model.safetensors")


def test_what_a_run_in_progress_has_just_written_is_no_garbage(store: Store) -> None:
    young = put(store)
    assert garbage.garbage(store, min_age=3600) == []
    assert [a.id for a in garbage.garbage(store)] == [young.id]
    draft = store.root / "tmp" / "999999999-abc"
    draft.mkdir(parents=True)
    assert leftovers(store.root, min_age=3600) == []
    assert leftovers(store.root) == [draft]
