"""`artifacts ls` from memory: what is remembered is what is there, and a changed manifest is never believed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from refusalctl.store import store as store_module
from refusalctl.store.listing import listing
from refusalctl.store.store import MANIFEST, Artifact, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add(store: Store, number: int, kind: str = "labels") -> Artifact:
    with store.draft() as out:
        (out / "rows.jsonl").write_bytes(b"x" * number)
        recipe = {"step": "judge", "version": 1, "params": {"number": number}, "inputs": {}}
        return store.commit(out, kind, recipe, {"lang": "be", "n": number}, {})


def remembered(store: Store) -> Path:
    return store.root / "cache" / "listing.json"


def test_an_empty_store_lists_nothing_and_stays_untouched(store: Store) -> None:
    assert listing(store) == []
    assert not store.root.exists()


def test_lines_say_what_manifests_say_oldest_first(store: Store) -> None:
    made = [add(store, n, kind) for n, kind in ((3, "labels"), (1, "scores"), (2, "labels"))]
    for age, artifact in enumerate(made):  # a copy has other times, and another order of them
        os.utime(artifact.path / MANIFEST, (1000 - age, 1000 - age))
    for _ in range(2):  # read, then remembered
        lines = listing(store)
        assert [(x.kind, x.id, x.about, x.bytes, x.written) for x in lines] == [
            (a.kind, a.id, a.about, a.size, store.run_info(a)["written"]) for a in made
        ]
    assert [x.id for x in listing(store, "scores")] == [made[1].id]


def test_a_second_listing_opens_no_manifest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, 1)
    listing(store)
    later = add(store, 2)
    opened: list[str] = []
    real = Store.open
    monkeypatch.setattr(store_module.Store, "open", lambda self, k, i: opened.append(i) or real(self, k, i))
    assert len(listing(store)) == 2
    assert opened == [later.id]
    listing(store)
    assert opened == [later.id]


def test_what_was_removed_is_gone_and_forgotten(store: Store) -> None:
    first, second = add(store, 1), add(store, 2)
    listing(store)
    shutil.rmtree(first.path)
    assert [x.id for x in listing(store)] == [second.id]
    assert list(json.loads(remembered(store).read_bytes())["lines"]) == [f"labels/{second.id}"]


def test_a_listing_of_one_kind_forgets_no_other(store: Store) -> None:
    add(store, 1), add(store, 2, "scores")
    listing(store)
    listing(store, "labels")
    assert len(json.loads(remembered(store).read_bytes())["lines"]) == 2


def test_a_manifest_that_was_changed_is_told_of_even_when_remembered_and_the_rest_is_listed(tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path / "store", told.append)
    artifact, other = add(store, 1), add(store, 2)
    listing(store)
    (artifact.path / MANIFEST).write_bytes((artifact.path / MANIFEST).read_bytes().replace(b'"be"', b'"en"'))
    for _ in range(2):
        assert [x.id for x in listing(store)] == [other.id]
    (line,) = told
    assert f"labels {artifact.id[:12]} was changed" in line


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version":0,"lines":{}}', b'{"version":3,"lines":{"a":[1]}}'])
def test_a_damaged_memory_is_made_anew(store: Store, content: bytes) -> None:
    artifact = add(store, 1)
    listing(store)
    remembered(store).write_bytes(content)
    assert [x.id for x in listing(store)] == [artifact.id]
    assert json.loads(remembered(store).read_bytes())["version"] == 3


def test_a_store_without_the_right_to_write_is_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = add(store, 1)

    def refuse(_self: Path, _content: bytes) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert [x.id for x in listing(store)] == [artifact.id]
    assert not remembered(store).exists()
