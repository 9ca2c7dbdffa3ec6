"""Manifests from elsewhere: what is well formed but not what its id says is refused too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusalctl.errors import Corrupt
from refusalctl.store.exchange.arrivals import arrived, is_plain, is_run
from refusalctl.store.hashing import canonical
from refusalctl.store.store import Store
from tests.store.exchange.conftest import put


def manifest(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((put(store, "labels", b"x").path / "manifest.json").read_bytes())
    return found


def test_a_whole_manifest_of_another_artifact_is_refused(store: Store) -> None:
    value = manifest(store)
    content = canonical(value)
    identifier = hashlib.sha256(content).hexdigest()
    assert arrived(content, "labels", identifier, Path(), "there").id == identifier
    value["about"]["n"] = 4
    with pytest.raises(Corrupt, match="does not give its id"):
        arrived(canonical(value), "labels", identifier, Path(), "there")


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda m: m.update(version=2),
    "another kind": lambda m: m.update(kind="prompts"),
    "no kind": lambda m: m.update(kind="nonsense"),
    "an input that is a path": lambda m: m["recipe"].update(inputs={"a": "../../x"}),
    "no recipe": lambda m: m.pop("recipe"),
    "a size below zero": lambda m: m["files"]["rows.bin"].update(bytes=-1),
    "a digest that is none": lambda m: m["files"]["rows.bin"].update(sha256="x"),
    "a file outside": lambda m: m["files"].update({"../x": m["files"]["rows.bin"]}),
    "a file of Windows": lambda m: m["files"].update({"a*": m["files"]["rows.bin"]}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_makes_no_sense_is_refused_though_its_id_is_right(store: Store, change: str) -> None:
    value = manifest(store)
    CHANGES[change](value)
    content = canonical(value)
    with pytest.raises(Corrupt):
        arrived(content, "labels", hashlib.sha256(content).hexdigest(), Path(), "there")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}'])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(Corrupt):
        arrived(content, "labels", hashlib.sha256(content).hexdigest(), Path(), "there")


def test_a_manifest_that_is_written_otherwise_is_refused(store: Store) -> None:
    content = json.dumps(manifest(store), indent=1).encode()
    with pytest.raises(Corrupt, match="not as this tool writes it"):
        arrived(content, "labels", hashlib.sha256(content).hexdigest(), Path(), "there")


def test_names_of_payload_files(store: Store) -> None:
    assert all(map(is_plain, ("activations.h5", "report.html", "rows.jsonl", "a-b_c.png")))
    assert not any(map(is_plain, ("", ".", "..", "a/b", ".x", "~x", "-x", "x.", "x ", "a:b", "Manifest.JSON", "x.tmp")))


def test_a_run_record_proves_itself(store: Store) -> None:
    content = (put(store, "labels", b"x").path / "run.json").read_bytes()
    assert is_run(content)
    assert not any(map(is_run, (b"", b"{}", b"[]", b"[" * 100_000, content.replace(b"1.0", b"2.0"))))
