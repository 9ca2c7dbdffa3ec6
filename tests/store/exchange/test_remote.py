"""Artifacts at URLs: in memory, and on a real S3-speaking server; what is half there is there for nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from refusalctl.errors import BadInput, Corrupt, NotFound, StoreError
from refusalctl.store.exchange.addresses import address
from refusalctl.store.exchange.planning import plan
from refusalctl.store.exchange.remote import UrlSide, filesystem, shown
from refusalctl.store.exchange.sides import StoreSide
from refusalctl.store.store import Store
from refusalctl.store.verify import verify
from tests.store.exchange.conftest import contents, put


@pytest.fixture
def memory() -> Iterator[str]:
    from fsspec.implementations.memory import MemoryFileSystem

    url = f"memory://{uuid4().hex}"
    yield url
    MemoryFileSystem.store.clear()


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue(request.param)}/team"


def side(url: str) -> UrlSide:
    return UrlSide(*filesystem(url), shown(url))


def push(store: Store, url: str, *asked: str, check: bool = False, names: bool = False) -> int:
    there = side(url)
    shipment = plan(StoreSide(store), there, asked, everything=not asked, names=names, check=check)
    there.receive(shipment, StoreSide(store), lambda _n: None)
    return len(shipment.artifacts)


def pull(url: str, store: Store, *asked: str, names: bool = False) -> int:
    shipment = plan(side(url), StoreSide(store), asked, everything=not asked, names=names)
    StoreSide(store).receive(shipment, side(url), lambda _n: None)
    return len(shipment.artifacts)


def test_there_and_back_every_byte_is_the_same(store: Store, other: Store, url: str) -> None:
    assert push(store, url, names=True) == 4
    assert pull(url, other, names=True) == 4
    assert contents(other) == contents(store)
    assert other.names() == store.names()
    assert verify(other).problems == []


@pytest.mark.parametrize("asked", ["native", "selection:lang=be", "selection", "ID"])
def test_what_is_there_is_found_by_name_query_kind_and_beginning_of_an_id(
    store: Store, other: Store, memory: str, asked: str
) -> None:
    push(store, memory, names=True)
    assert pull(memory, other, asked if asked != "ID" else store.resolve("native").id[:10]) == 3
    with pytest.raises(NotFound, match="memory://"):
        pull(memory, other, "natvie")


def test_nothing_is_sent_twice(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    push(store, url, "native")
    sent = []
    upload = UrlSide._upload
    monkeypatch.setattr(
        UrlSide, "_upload", lambda self, each, advance: (sent.append(each), upload(self, each, advance))
    )
    assert push(store, url, "native") == 0
    assert sent == []
    assert push(store, url) == 1
    assert len(sent) == 2


def test_an_interrupted_push_leaves_no_artifact_without_its_files_and_goes_on(
    store: Store, other: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends after each possible number of uploads: what counts there is always whole, with its inputs."""
    upload, write = UrlSide._upload, UrlSide._write
    left, done = 0, 0

    def count() -> None:
        nonlocal left, done
        if not left:
            raise ConnectionResetError("the other side hung up")
        left, done = left - 1, done + 1

    monkeypatch.setattr(UrlSide, "_upload", lambda *a: (count(), upload(*a)))
    monkeypatch.setattr(UrlSide, "_write", lambda *a: (count(), write(*a)))
    for _ in range(20):
        left = 1
        with suppress(StoreError):
            push(store, url, names=True)
            break
        there = side(url).all()
        ids = {a.id for a in there}
        assert all(i in ids for a in there for i in a.inputs.values())
        fetched = Store(other.root / str(done))
        assert not there or pull(url, fetched, *(a.id for a in there)) == len(there)
    assert done == 4 * 2 + 4 + 1, "each file, each manifest and the name are sent once"
    assert pull(url, other) == 4


@pytest.mark.parametrize("name", ["rows.bin", "manifest.json", "run.json"])
def test_a_bit_that_was_flipped_there_is_refused(store: Store, other: Store, url: str, name: str) -> None:
    push(store, url)
    there = side(url)
    path = there._path("activations", store.resolve("activations").id, name)
    content = there.fs.cat_file(path)
    there.fs.pipe_file(path, content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(Corrupt, match="activations"):
        pull(url, other, "selection:")
    assert "activations" not in {kind for kind, _ in other.folders()}
    assert push(store, url) == 0
    assert push(store, url, check=True) == 1
    pull(url, other)
    assert contents(other) == contents(store)


def test_a_manifest_that_has_not_arrived_means_no_artifact(store: Store, other: Store, memory: str) -> None:
    push(store, memory)
    there = side(memory)
    there.fs.rm_file(there._path("activations", store.resolve("activations").id, "manifest.json"))
    with pytest.raises(NotFound, match="has not arrived"):
        pull(memory, other, "selection:")
    assert push(store, memory) == 1


def test_what_is_damaged_here_is_not_spread(store: Store, memory: str) -> None:
    file = store.resolve("activations").path / "rows.bin"
    file.write_bytes(b"b" + file.read_bytes()[1:])
    with pytest.raises(Corrupt, match="bytes were changed"):
        push(store, memory)
    assert "activations" not in {a.kind for a in side(memory).all()}


def test_two_pushers_at_once_both_succeed(store: Store, other: Store, s3: str, tmp_path: Path) -> None:
    for n in range(6):
        put(store, "labels", b"%d" % n * 10_000, n=n)
    command = (sys.executable, "-m", "refusalctl", "artifacts", "push", f"{s3}/team", "--all", "--with-texts")
    pushers = [
        subprocess.Popen([*command, "--store", str(store.root)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    told = [each.communicate()[1] for each in pushers]
    assert [each.returncode for each in pushers] == [0, 0], told
    assert pull(f"{s3}/team", other) == 10
    assert contents(other) == contents(store)


def test_a_push_that_is_killed_anywhere_is_finished_by_the_next(store: Store, other: Store, s3: str) -> None:
    for n in range(8):
        put(store, "labels", os.urandom(300_000), n=n)
    url = f"{s3}/team"
    command = (sys.executable, "-m", "refusalctl", "artifacts", "push", url, "--all", "--with-texts")
    killed = 0
    for delay in (0.0, 0.15, 0.4):
        pusher = subprocess.Popen([*command, "--store", str(store.root)], stderr=subprocess.DEVNULL)
        known = len(side(url)._list("labels", folders=True))
        while pusher.poll() is None and len(side(url)._list("labels", folders=True)) == known:
            time.sleep(0.01)
        time.sleep(delay)
        pusher.send_signal(signal.SIGKILL)
        killed += pusher.wait() == -signal.SIGKILL
        for artifact in side(url).all():
            assert side(url)._is_good(artifact)
    assert killed
    push(store, url)
    assert pull(url, other) == 12
    assert contents(other) == contents(store)


def test_a_wrong_address_is_no_empty_success(other: Store, url: str) -> None:
    with pytest.raises(NotFound, match="there are no artifacts in"):
        pull(url, other)


def test_errors_of_a_server_are_one_line(store: Store, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"cannot list s3://no-such-bucket/x: The specified bucket does not exist"):
        push(store, "s3://no-such-bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="cannot list s3://any/x"):
        side("s3://any/x").folders()


def test_urls_are_shown_without_what_a_password_may_be(store: Store) -> None:
    assert shown("s3://key:secret@bucket/a/b/?token=x") == "s3://bucket/a/b"
    with pytest.raises(BadInput, match="no program here speaks nope://"):
        address("nope://x/y", store, print, receives=True)
    with pytest.raises(BadInput, match="artifacts import"):
        address("https://example.org/x", store, print, receives=False)
    with pytest.raises(BadInput, match="names no place"):
        address("s3://", store, print, receives=False)


def test_a_hostile_listing_leads_nowhere(store: Store, memory: str, tmp_path: Path) -> None:
    push(store, memory)
    there = side(memory)
    for path in (
        "names/..",
        "names/a\nb",
        "prompts/../../x",
        "prompts/" + "Z" * 64 + "/manifest.json",
        "evil/" + "0" * 64,
    ):
        there.fs.pipe_file(f"{there.base}/{path}", b"prompts/" + b"0" * 64)
    there.fs.pipe_file(f"{there.base}/names/good", b"../../" + b"0" * 64)
    assert side(memory).names() == {}
    assert sorted(side(memory).folders()) == sorted(store.folders())


@pytest.mark.parametrize("how", ["link", "changed"])
def test_a_run_that_is_not_what_it_was_is_not_sent(store: Store, memory: str, tmp_path: Path, how: str) -> None:
    run = store.resolve("prompts").path / "run.json"
    (tmp_path / "private").write_text("{}", encoding="utf-8")
    run.unlink()
    if how == "link":
        run.symlink_to(tmp_path / "private")
    else:
        run.write_text("{}", encoding="utf-8")
    with pytest.raises(Corrupt, match=r"run\.json: it is missing or was changed"):
        push(store, memory)
