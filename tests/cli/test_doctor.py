"""What `doctor` says of a store."""

from __future__ import annotations

from pathlib import Path

from refusalctl.cli.doctor import _store
from refusalctl.store.artifact import MANIFEST
from refusalctl.store.store import Store
from tests.store.test_marks import put


def test_damage_is_a_problem_and_what_is_told_beside_it_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path / "passed over")  # a word of the warning, in a path
    artifact = put(store)
    (store.root / "tmp" / "999999999-1-elsewhere-boot-abc").mkdir()
    fine, told = _store(store.root)
    assert fine
    assert "1 artifacts" in told
    (artifact.path / MANIFEST).write_bytes(b"{")
    fine, told = _store(store.root)
    assert not fine
    assert told.endswith("see `refusalctl artifacts verify`")
