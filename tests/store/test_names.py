"""Names are written twice: what something else deleted or changed is named, kept from `gc`, and given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusalctl.errors import StoreError
from refusalctl.store import names
from refusalctl.store.damage import Damage
from refusalctl.store.drafts import draft_name
from refusalctl.store.garbage import garbage
from refusalctl.store.mend import mend
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import verify
from tests.store.test_marks import dead_name, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def named(store: Store) -> Artifact:
    artifact = put(store)
    store.name("mine", artifact)
    return artifact


def found(store: Store) -> list[Damage]:
    return [problem.damage for problem in verify(store).problems]


def test_a_name_that_is_gone_is_missed_keeps_its_artifact_and_is_given_back(store: Store, named: Artifact) -> None:
    (store.root / "names" / "mine").unlink()
    (problem,) = verify(store).problems
    assert (problem.where, problem.damage) == ("names/mine", Damage.MISSING_NAME)
    assert named.id[:12] in problem.what
    assert garbage(store) == []
    mend(store, [problem])
    assert store.names() == {"mine": f"labels/{named.id}"}
    assert found(store) == []


@pytest.mark.parametrize("end", ["", "\n", "\r", " \n"])
def test_a_name_that_something_else_changed_is_no_name(store: Store, named: Artifact, end: str) -> None:
    """It points to an artifact that is there, and yet it is not what was named."""
    other = put(store, 2)
    target = f"labels/{other.id if end == chr(10) else named.id}{end}"
    (store.root / "names" / "mine").write_text(target)
    assert found(store) == [Damage.CHANGED_NAME]
    mend(store, verify(store).problems)
    assert store.names() == {"mine": f"labels/{named.id}"}


@pytest.mark.parametrize("damage", ["gone", "flipped", "cut", "foreign"])
def test_records_that_are_gone_or_changed_are_named_and_written_again(
    store: Store, named: Artifact, damage: str
) -> None:
    record = names.record_file(store.root, "mine")
    content = record.read_bytes()
    if damage == "gone":
        record.unlink()
    else:
        changed = {"flipped": content.replace(b"mine", b"mind"), "cut": content[:-1], "foreign": b"[[]]"}
        record.write_bytes(changed[damage])
    assert set(found(store)) == {Damage.MISSING_RECORD, *([] if damage == "gone" else [Damage.CHANGED_RECORD])}
    mend(store, verify(store).problems)
    assert found(store) == []
    assert store.names() == {"mine": f"labels/{named.id}"}


@pytest.mark.parametrize("done", [1, 2])
def test_a_name_whose_change_was_killed_is_no_damage_and_is_settled_by_the_next_start(
    store: Store, named: Artifact, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """The record alone, or record and name, were written: both the old and the new are allowed, one of them counts."""
    other, writes, real = put(store, 2), list[Path](), names.replace_whole

    def killed(root: Path, path: Path, content: bytes) -> None:
        if len(writes) == done:
            raise OSError(28, "as if it were killed here")
        writes.append(path)
        real(root, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(names, "replace_whole", killed)
        patch.setattr(names, "draft_name", dead_name)
        with pytest.raises(StoreError):
            store.name("mine", other)
    assert found(store) == []
    put(Store(store.root), 3)
    wanted = named if done == 1 else other
    assert store.names() == {"mine": f"labels/{wanted.id}"}
    assert names.records(store.root).popitem()[1] == names.Record("mine", f"labels/{wanted.id}")
    assert found(store) == []


def test_a_name_that_a_living_process_changes_is_left_to_it(store: Store, named: Artifact) -> None:
    changing = names.Record("mine", f"labels/{'0' * 64}", f"labels/{named.id}", draft_name())
    names._write(store.root, changing)
    names.settle(store.root)
    assert names.records(store.root).popitem()[1] == changing


def test_a_name_is_taken_away_with_its_record(store: Store, named: Artifact) -> None:
    names.forget(store.root, "mine")
    assert store.names() == {}
    assert not list((store.root / "named").iterdir())
    assert found(store) == []
