"""What a recipe gave is known at any kill: marks come before artifacts, prove themselves, give lost manifests back."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from refusalctl.errors import StoreError
from refusalctl.store import dead, drafts, garbage, marks, names
from refusalctl.store import store as store_module
from refusalctl.store.damage import Damage
from refusalctl.store.dead import sweep_dead
from refusalctl.store.drafts import draft_name
from refusalctl.store.hashing import canonical, content_digest, digest
from refusalctl.store.mend import mend, mendable
from refusalctl.store.store import MANIFEST, Artifact, Store
from refusalctl.store.verify import verify

DEAD = "999999999"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, params: object = 1, kind: str = "labels", **inputs: str) -> Artifact:
    recipe = {"step": "test", "version": 1, "params": params, "inputs": inputs}
    with store.draft() as draft:
        (draft / "data.bin").write_bytes(b"payload")
        return store.commit(draft, kind, recipe, {"lang": "ba"}, {})


def mark_of(store: Store, artifact: Artifact) -> Path:
    return store.root / "recipes" / digest(artifact.manifest["recipe"]) / artifact.id


def dead_name() -> str:
    """The draft name of a process that has ended."""
    return DEAD + draft_name()[draft_name().index("-") :]


def test_a_mark_is_a_copy_of_the_manifest(store: Store) -> None:
    artifact = put(store)
    assert mark_of(store, artifact).read_bytes() == (artifact.path / MANIFEST).read_bytes()


def test_a_kill_before_the_artifact_is_in_place_leaves_a_mark_that_is_no_damage_and_is_swept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kill leaves it: the draft whole in `tmp/`, the mark, no artifact."""
    first = put(store)
    with store.draft() as draft:
        (draft / "data.bin").write_bytes(b"other")
        with monkeypatch.context() as patch:
            patch.setattr(Store, "_place", lambda *_: None)
            lost = store.commit(draft, "labels", {"step": "test", "inputs": {}}, {}, {})
        draft.rename(store.root / "tmp" / dead_name())
    mark = mark_of(store, lost)
    assert mark.is_file()
    assert verify(store).problems == []
    put(Store(store.root), 3)  # the next start
    assert not mark.parent.exists()
    assert not list((store.root / "tmp").iterdir())
    assert store.find(digest(first.manifest["recipe"])) is not None


def test_an_error_on_the_way_takes_the_mark_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "_place", refused)
    with pytest.raises(store_module.StoreError):
        put(store)
    assert not list((store.root / "recipes").iterdir())


def test_a_removal_that_was_killed_is_no_damage_and_is_finished_by_the_next_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, other = put(store), put(store, 2)
    store.name("mine", artifact)
    with monkeypatch.context() as patch:
        patch.setattr(garbage, "finish_removal", lambda *_: None)
        patch.setattr(drafts, "draft_name", dead_name)
        garbage.remove(store, "labels", artifact.id)
    assert verify(store).problems == []
    sweep_dead(store.root)
    assert verify(store).problems == []
    assert store.names() == {}
    assert [a.id for a in store.all()] == [other.id]
    assert not mark_of(store, artifact).exists()


def test_a_mark_that_is_taken_away_while_its_artifact_comes_is_put_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process removes what another computes again: either order leaves a mark for what is there."""
    artifact = put(store)
    mark = marks.read(mark_of(store, artifact))
    home = artifact.path.rename(store.root / "aside")
    unlink = Path.unlink

    def late(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        if self == mark.path:
            home.rename(artifact.path)

    monkeypatch.setattr(Path, "unlink", late)
    marks.drop(store.root, mark)
    assert verify(store).problems == []


def test_a_mark_of_another_recipe_gives_no_result(store: Store) -> None:
    artifact = put(store)
    other = digest({"step": "another"})
    wrong = store.root / "recipes" / other / artifact.id
    wrong.parent.mkdir()
    wrong.write_bytes(mark_of(store, artifact).read_bytes())
    assert store.find(other) is None
    (problem,) = verify(store).problems
    assert problem.damage is Damage.CHANGED_MARK


@pytest.mark.parametrize("damage", ["gone", "flipped", "cut"])
def test_marks_that_are_gone_or_changed_are_named_and_written_again(store: Store, damage: str) -> None:
    artifact = put(store)
    mark = mark_of(store, artifact)
    content = mark.read_bytes()
    if damage == "gone":
        mark.unlink()
        assert store.find(digest(artifact.manifest["recipe"])) is None
    else:
        mark.write_bytes(content[:-5] if damage == "cut" else content.replace(b"ba", b"bb", 1))
        assert store.find(digest(artifact.manifest["recipe"])) is not None  # what it gave is there, and proves itself
    problems = verify(store).problems
    assert {p.damage for p in problems} <= {Damage.MISSING_MARK, Damage.CHANGED_MARK}
    assert problems
    assert all(each.how for each in mendable(store, problems))
    mend(store, problems)
    assert verify(store).problems == []
    assert mark.read_bytes() == content


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_a_lost_manifest_is_named_and_comes_back_from_its_copy(store: Store, damage: str) -> None:
    needed = put(store, kind="prompts")
    artifact = put(store, 2, made_from=needed.id)
    manifest = artifact.path / MANIFEST
    content = manifest.read_bytes()
    manifest.unlink() if damage == "gone" else manifest.write_bytes(content.replace(b"ba", b"bb", 1))
    (problem,) = verify(store).problems
    assert problem.damage is (Damage.MISSING_MANIFEST if damage == "gone" else Damage.CHANGED_MANIFEST)
    assert needed.id not in {a.id for a in garbage.garbage(store)}  # the copy says what it was made from
    mend(store, [problem])
    assert verify(store).problems == []
    assert manifest.read_bytes() == content


def test_a_result_that_was_damaged_is_replaced_by_the_same_one_computed_again(store: Store) -> None:
    """Its files have their sizes: only their bytes tell."""
    artifact = put(store)
    (artifact.path / "data.bin").write_bytes(b"PAYLOAD")
    os.utime(artifact.path / "data.bin", (0, 0))
    assert put(store).id == artifact.id
    assert (artifact.path / "data.bin").read_bytes() == b"payload"
    assert not list((store.root / "tmp").iterdir())


def test_mending_one_mark_leaves_another_whose_bytes_are_whole(store: Store) -> None:
    """One of a later version may be all that is left of a recipe."""
    artifact, later = put(store), canonical({"format": "refusalctl.artifact", "version": 2})
    whole = store.root / "recipes" / ("a" * 64) / content_digest(later)
    whole.parent.mkdir()
    whole.write_bytes(later)
    mark_of(store, artifact).unlink()
    problems = verify(store).problems
    assert {p.damage for p in problems} == {Damage.MISSING_MARK, Damage.UNKNOWN_VERSION}
    mend(store, problems)
    assert whole.read_bytes() == later
    assert mark_of(store, artifact).is_file()


@pytest.mark.parametrize("change", [{"version": 2}, {"kind": "sonnets"}, {"version": 3, "files": "in another way"}])
def test_a_mark_of_a_newer_version_is_no_damage_and_nothing_takes_it_away(
    store: Store, change: dict[str, object]
) -> None:
    """Versions and kinds that are not known yet: one store, two people, one of whom has not upgraded."""
    newer = canonical({**put(store).manifest, **change})  # type: ignore[arg-type]
    mark = store.root / "recipes" / ("a" * 64) / content_digest(newer)
    mark.parent.mkdir()
    mark.write_bytes(newer)
    os.utime(mark, (0, 0))
    (problem,) = verify(store).problems
    assert (problem.damage, "upgrade" in problem.what) == (Damage.UNKNOWN_VERSION, True)
    assert [each.how for each in mendable(store, [problem])] == [None]
    left = garbage.left_behind(store)
    assert left.marks == []
    garbage.sweep(store, [], left)
    marks.drop(store.root, marks.read(mark))
    assert mark.read_bytes() == newer


def test_mending_does_what_it_was_asked_and_no_more(store: Store) -> None:
    one, other = put(store), put(store, 2)
    store.name("mine", one)
    store.name("yours", other)
    for artifact in (one, other):
        mark_of(store, artifact).unlink()
    for name in ("mine", "yours"):
        (store.root / "names" / name).unlink()
    asked = [p for p in verify(store).problems if p.where in (one.label, "names/mine")]
    assert len(asked) == 2
    mend(store, asked)
    assert mark_of(store, one).is_file()
    assert not mark_of(store, other).exists()
    assert list(store.names()) == ["mine"]
    assert {p.where for p in verify(store).problems} == {other.label, "names/yours"}


def test_a_name_that_was_moved_while_its_artifact_is_removed_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stays = put(store), put(store, 2)
    store.name("mine", gone)
    real = names.listed

    def late(root: Path) -> dict[str, str]:
        found = real(root)
        names.point(root, "mine", f"labels/{stays.id}")
        return found

    monkeypatch.setattr(dead, "names", SimpleNamespace(listed=late, forget=names.forget))
    garbage.remove(store, gone.kind, gone.id)
    assert store.names() == {"mine": f"labels/{stays.id}"}


def test_what_cannot_take_a_damaged_ones_place_leaves_it_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = put(store)
    (artifact.path / "data.bin").write_bytes(b"damaged")
    real = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if Path(target) == artifact.path and (self / MANIFEST).is_file() and self.name in new:
            raise OSError(errno.ENOTEMPTY if artifact.path.exists() else errno.EIO, "refused")
        return real(self, target)

    new: set[str] = set()
    with store.draft() as draft:
        new.add(draft.name)
        (draft / "data.bin").write_bytes(b"payload")
        monkeypatch.setattr(Path, "rename", refused)
        with pytest.raises((OSError, StoreError)):
            store.commit(draft, "labels", artifact.manifest["recipe"], {"lang": "ba"}, {})
    assert (artifact.path / "data.bin").read_bytes() == b"damaged"
