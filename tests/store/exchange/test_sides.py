"""Sending to a folder and fetching from one: verified, once, never half."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from refusalctl.errors import Corrupt
from refusalctl.store.exchange.planning import plan
from refusalctl.store.exchange.sides import FolderSide, Source, StoreSide
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import verify
from tests.store.exchange.conftest import contents, put


def send(source: Source, to: Store, *asked: str, check: bool = False, names: bool = False) -> int:
    """Artifacts that had to be sent."""
    shipment = plan(source, StoreSide(to), asked, everything=not asked, names=names, check=check)
    StoreSide(to).receive(shipment, source, lambda _n: None)
    return len(shipment.artifacts)


def test_a_selection_arrives_with_its_lineage_and_its_name_and_nothing_else(store: Store, other: Store) -> None:
    assert send(FolderSide(store), other, "native", names=True) == 3
    assert other.names() == store.names()
    assert contents(other) == {path: c for path, c in contents(store).items() if not path.startswith("labels")}
    assert verify(other).problems == []
    for artifact in other.all():
        found = other.find(_key(artifact))
        assert found is not None
        assert found.id == artifact.id


def _key(artifact: Artifact) -> str:
    from refusalctl.store.hashing import digest

    return digest(artifact.manifest["recipe"])


def test_what_is_there_is_not_sent_again(store: Store, other: Store) -> None:
    send(FolderSide(store), other, "native")
    before = {path: (other.root / path).stat().st_mtime_ns for path in contents(other)}
    assert send(FolderSide(store), other) == 1  # the labels
    assert {path: (other.root / path).stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("damage", ["flip", "shorten", "lengthen", "remove", "run", "manifest"])
def test_what_was_changed_on_the_other_side_is_refused_and_nothing_of_it_kept(
    store: Store, other: Store, damage: str
) -> None:
    home = store.resolve("activations").path
    file = home / {"run": "run.json", "manifest": "manifest.json"}.get(damage, "rows.bin")
    content = file.read_bytes()
    changed = {"shorten": content[:-1], "lengthen": content + b"x"}.get(damage, bytes([content[0] ^ 1]) + content[1:])
    file.unlink()
    if damage != "remove":
        file.write_bytes(changed)
    with pytest.raises(Corrupt):
        send(FolderSide(store), other, "native")
    assert {kind for kind, _ in other.folders()} <= {"prompts"}
    assert not [p for p in other.root.glob("partial/*/*") if p.name == "rows.bin"]
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    send(FolderSide(store), other, "native")
    assert verify(other).problems == []


@pytest.mark.parametrize("name", ["rows.bin", "manifest.json", "run.json"])
def test_check_finds_what_a_disk_changed_and_sends_it_again(store: Store, other: Store, name: str) -> None:
    send(FolderSide(store), other)
    file = other.resolve("activations").path / name
    file.write_bytes(b"b" + file.read_bytes()[1:])
    assert send(FolderSide(store), other) == 0
    assert send(FolderSide(store), other, check=True) == 1
    assert verify(other).problems == []


class _Slow(FolderSide):
    """Fetches half of a file, and says so."""

    def fetch(self, key, name, file, size, advance):  # type: ignore[no-untyped-def]
        if key[0] == "activations" and name == "rows.bin" and not (half := self.root / "half").exists():
            super().fetch(key, name, file, size // 2, advance)
            half.touch()
            time.sleep(60)
        self.asked = (*getattr(self, "asked", ()), (key[0], name, file.stat().st_size))
        super().fetch(key, name, file, size, advance)


def _fetch(ours: Path, theirs: Path) -> None:
    send(_Slow(Store(ours)), Store(theirs), "selection:")


def test_a_killed_fetch_leaves_nothing_half_and_goes_on_in_the_middle_of_the_file(store: Store, other: Store) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_fetch, args=(store.root, other.root))
    process.start()
    while not (store.root / "half").exists():
        time.sleep(0.02)
        assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [kind for kind, _ in other.folders()] == ["prompts"]
    source = _Slow(store)
    assert send(source, other, "selection:") == 2
    assert ("activations", "rows.bin", 100_000) in source.asked
    assert verify(other).problems == []
    assert not list((other.root / "partial").iterdir())


def test_what_a_crash_left_in_a_half_file_is_fetched_anew(store: Store, other: Store) -> None:
    room = other.root / "partial" / store.resolve("activations").id
    room.mkdir(parents=True)
    (room / "rows.bin").write_bytes(b"\0" * 1000)
    (room / "rest.bin").write_bytes(b"of another version")
    send(FolderSide(store), other, "native")
    assert contents(other)[f"activations/{room.name}/rows.bin"] == b"a" * 200_000
    assert verify(other).problems == []


def _push(ours: Path, theirs: Path, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    send(StoreSide(Store(ours)), Store(theirs))


def test_two_that_send_the_same_at_once_both_succeed(store: Store, other: Store) -> None:
    for n in range(10):
        put(store, "labels", b"%d" % n * 1000, n=n)
    context = multiprocessing.get_context("spawn")
    at = time.time() + 6
    both = [context.Process(target=_push, args=(store.root, other.root, at)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [each.exitcode for each in both] == [0, 0]
    assert contents(other) == contents(store)
    assert verify(other).problems == []
