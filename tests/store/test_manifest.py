"""Manifests of somebody who means harm: each agrees with its id, and makes no sense."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from refusalctl.errors import Corrupt, NotFound
from refusalctl.store.artifact import Artifact
from refusalctl.store.hashing import content_digest
from refusalctl.store.manifest import MANIFEST, RUN, Digest
from refusalctl.store.store import Store
from refusalctl.store.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store) -> Artifact:
    with store.draft() as out:
        (out / "data.bin").write_bytes(b"payload")
        return store.commit(out, "labels", {"step": "s", "version": 1, "params": {}, "inputs": {}}, {"lang": "ba"}, {})


def forged(store: Store, content: bytes) -> str:
    """An artifact whose folder is called after whatever its manifest holds."""
    home = put(store).path
    (home / MANIFEST).write_bytes(content)
    identifier = content_digest(content)
    home.rename(home.with_name(identifier))
    return identifier


def changed(store: Store, **parts: Any) -> str:
    value = json.loads((put(store).path / MANIFEST).read_bytes()) | parts
    return forged(store, json.dumps(value).encode())


FILE = {"sha256": "a" * 64, "bytes": 7}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"files": {"../../x": FILE}}, "its name is a path"),
        ({"files": {"/etc/passwd": FILE}}, "its name is a path"),
        ({"files": {"C:\\x": FILE}}, "its name is a path"),
        ({"files": {"..": FILE}}, "its name means a folder"),
        ({"files": {"a\x1b[31m": FILE}}, "cannot be shown"),
        ({"files": {"run.json": FILE}}, "another file of the store"),
        ({"files": {"x": {"sha256": "a" * 64, "bytes": -1}}}, "bytes"),
        ({"files": {"x": {"sha256": "a" * 64, "bytes": 1 << 60}}}, "bytes"),
        ({"files": {"x": {"sha256": "../x", "bytes": 1}}}, "sha256"),
        ({"files": ["x"]}, "files"),
        ({"recipe": {"inputs": {"a": "../../x"}}}, "inputs"),
        ({"recipe": {"inputs": [1]}}, "inputs"),
        ({"recipe": 7}, "recipe"),
        ({"about": {"n": "many"}}, "about"),
        ({"about": {"lang": {"x": 1}}}, "about"),
        ({"kind": "transfer"}, "another kind"),
        ({"format": "other"}, "format"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_corrupt(store: Store, parts: dict[str, Any], words: str) -> None:
    identifier = changed(store, **parts)
    with pytest.raises(Corrupt, match=words):
        store.open("labels", identifier)
    assert store.all("labels") == []
    assert words in verify(store).problems[0].what


@pytest.mark.parametrize("content", [b"[" * 99_999, b"{" * 9, b'{"version": 1, "a": NaN}', b"[1]", b"\xff", b""])
def test_a_manifest_that_is_no_json_object_is_corrupt(store: Store, content: bytes) -> None:
    with pytest.raises(Corrupt, match="cannot be read"):
        store.open("labels", forged(store, content))


def test_another_spelling_of_the_same_manifest_is_another_file(store: Store) -> None:
    artifact = put(store)
    path = artifact.path / MANIFEST
    path.write_bytes(json.dumps(json.loads(path.read_bytes()), indent=1).encode())
    with pytest.raises(Corrupt, match="was changed"):
        store.open("labels", artifact.id)


def test_what_a_manifest_does_not_say_is_damage_and_no_bug(store: Store) -> None:
    artifact = store.open("labels", put(store).id)
    with pytest.raises(Corrupt, match=r"does not say its 'judge'"):
        artifact.about["judge"]
    assert artifact.about.get("judge") is None


def test_no_link_leads_out_of_the_store(store: Store, tmp_path: Path) -> None:
    artifact = put(store)
    outside = tmp_path / "outside"
    outside.write_bytes(b"payload")
    file = artifact.path / "data.bin"
    file.unlink()
    file.symlink_to(outside)
    assert store.results(artifact.id) == []
    with pytest.raises(Corrupt, match="symbolic link"):
        store.check(artifact)
    assert "symbolic link" in verify(store).problems[0].what
    artifact.path.rename(tmp_path / "moved")
    artifact.path.symlink_to(tmp_path / "moved")
    with pytest.raises(Corrupt, match="symbolic link"):
        store.open("labels", artifact.id)


@pytest.mark.parametrize("name", [MANIFEST, RUN])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(store: Store, name: str) -> None:
    import os

    artifact = put(store)
    (artifact.path / name).unlink()
    os.mkfifo(artifact.path / name)
    if name == RUN:
        with pytest.raises(Corrupt):
            store.run_info(artifact)
        assert store.written(artifact) > 0
    else:
        with pytest.raises((Corrupt, NotFound)):
            store.open("labels", artifact.id)


def test_an_id_ends_where_it_ends() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("a" * 64 + "\n", type=Digest)


def test_threads_never_meet_a_type_that_is_half_learned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """msgspec learns a type from the names in its module, once; where these are gone it must have done so before."""
    spec = importlib.util.find_spec("refusalctl.store.manifest")
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, fresh)
    spec.loader.exec_module(fresh)
    for name in ("_File", "_Recipe", "_About"):
        delattr(fresh, name)
    made = put(store)
    assert fresh.checked(made.manifest, "labels", "labels") == made.manifest
