"""Archives: the same bytes for the same artifacts, and nothing but artifacts comes out of one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from refusalctl.errors import BadInput, Corrupt, FileError, RefusalctlError
from refusalctl.store.exchange import archive
from refusalctl.store.exchange.planning import plan
from refusalctl.store.exchange.sides import StoreSide
from refusalctl.store.hashing import canonical
from refusalctl.store.store import Artifact, Store
from refusalctl.store.verify import verify
from tests.store.exchange.conftest import contents, put

Members = list[tuple[tarfile.TarInfo, bytes]]


def write(store: Store, path: Path, *asked: str) -> Path:
    shipment = plan(StoreSide(store), None, asked, everything=not asked, names=True)
    archive.export(shipment, store, path, lambda _n: None)
    return path


def read(path: Path, store: Store) -> list[Artifact]:
    with archive.reading(path) as reader:
        return archive.take(reader, store, names=True, advance=lambda _n: None)


def members(path: Path) -> Members:
    with tarfile.open(path) as found:
        return [(each, found.extractfile(each).read()) for each in found]  # type: ignore[union-attr]


def rewritten(path: Path, change: Callable[[Members], Members]) -> Path:
    """The same archive with other members."""
    changed = change(members(path))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for info, content in changed:
            info.size = len(content) if info.isreg() else info.size
            out.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_there_and_back_every_byte_is_the_same(store: Store, other: Store, tmp_path: Path, name: str) -> None:
    file = write(store, tmp_path / name)
    assert len(read(file, other)) == 4
    assert contents(other) == contents(store)
    assert other.names() == store.names()
    assert verify(other).problems == []
    assert read(file, other) == []
    assert (file.read_bytes()[:2] == b"\x1f\x8b") == name.endswith("gz")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_the_same_artifacts_give_the_same_archive(store: Store, other: Store, tmp_path: Path, name: str) -> None:
    first = write(store, tmp_path / name, "native")
    read(first, other)
    again = write(other, tmp_path / f"other-{name}", "native")
    assert first.read_bytes() == again.read_bytes()


def test_a_store_can_be_unpacked_by_tar_itself(store: Store, tmp_path: Path) -> None:
    file = write(store, tmp_path / "a.tar")
    with tarfile.open(file) as found:
        found.extractall(tmp_path / "plain", filter="data")
    assert contents(Store(tmp_path / "plain")) == contents(store)


def test_a_cut_archive_keeps_what_came_whole(store: Store, other: Store, tmp_path: Path) -> None:
    file = write(store, tmp_path / "a.tar")
    whole = file.read_bytes()
    for length in (0, 100, 700, 5_000, 150_000, len(whole) - 11_000):
        file.write_bytes(whole[:length])
        with pytest.raises(RefusalctlError):
            read(file, other)
        assert verify(other).problems == [] if other.root.exists() else length < 1000
    file.write_bytes(whole)
    read(file, other)
    assert contents(other) == contents(store)


def test_flipped_bytes_are_refused(store: Store, tmp_path: Path) -> None:
    file = write(store, tmp_path / "a.tar")
    whole = file.read_bytes()
    for at in range(0, 8_000, 97):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        other = Store(tmp_path / f"theirs-{at}")
        with suppress(RefusalctlError):
            read(file, other)
        assert not other.root.exists() or [p for p in verify(other).problems if "not in the store" not in p.what] == []
        assert set(contents(other).items()) <= set(contents(store).items())


def _named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, size
    return found, b""


HOSTILE = {
    "absolute": _named("/etc/evil"),
    "upwards": _named("../evil"),
    "upwards inside": _named(f"prompts/{'0' * 64}/../../evil"),
    "symbolic link": _named("link", tarfile.SYMTYPE, "/etc"),
    "hard link": _named("link", tarfile.LNKTYPE, "refusalctl-archive.json"),
    "device": _named("device", tarfile.CHRTYPE),
    "pipe": _named("pipe", tarfile.FIFOTYPE),
    "folder": _named("prompts", tarfile.DIRTYPE),
    "sparse": _named("sparse", tarfile.GNUTYPE_SPARSE),
    "unknown": _named("something", b"Q"),
    "store's own": _named(f"names/{'x' * 3}"),
}


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_member_is_refused_wherever_it_stands(store: Store, tmp_path: Path, what: str, place: int) -> None:
    file = rewritten(write(store, tmp_path / "a.tar"), lambda m: [*m[:place], HOSTILE[what], *m[place:]])
    other = Store(tmp_path / "deep" / "er" / "theirs")
    before = {path for path in tmp_path.rglob("*") if other.root not in path.parents}
    with pytest.raises(Corrupt):
        read(file, other)
    new = {path for path in tmp_path.rglob("*") if other.root not in path.parents} - before
    assert new <= {other.root, *other.root.parents}
    assert other.folders() == []
    assert not list((other.root / "tmp").glob("*"))


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_member_that_stands_where_another_should_is_refused(
    store: Store, other: Store, tmp_path: Path, place: int
) -> None:
    def renamed(found: Members) -> Members:
        found[place][0].name = "../evil"
        return found

    with pytest.raises(Corrupt):
        read(rewritten(write(store, tmp_path / "a.tar"), renamed), other)
    assert other.folders() == []


def _with_file(store: Store, name: str, size: int = 1) -> Members:
    """An archive of one artifact that names a file so; its id is right."""
    facts = {name: {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": size}}
    manifest = {"format": "refusalctl.artifact", "version": 1, "kind": "labels", "files": facts, "about": {}}
    manifest["recipe"] = {"step": "s", "version": 1, "params": {}, "inputs": {}}
    content = canonical(manifest)
    key = hashlib.sha256(content).hexdigest()
    header = {"format": "refusalctl.archive", "version": 1, "chosen": [key], "names": {}}
    header["artifacts"] = [{"kind": "labels", "id": key, "bytes": size}]
    home = f"labels/{key}"
    run = json.dumps({"digest": hashlib.sha256(b"{}").hexdigest(), "run": {}}).encode()
    found = {archive.HEADER: canonical(header), f"{home}/manifest.json": content, f"{home}/{name}": b"x"}
    return [(tarfile.TarInfo(path), text) for path, text in {**found, f"{home}/run.json": run}.items()]


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/b", "a\\b", "..", ".hidden", "", "manifest.json", "RUN.JSON", "c:x", "a\nb", "x" * 300, "x.tmp"],
)
def test_a_manifest_cannot_name_a_file_outside_its_folder(
    store: Store, other: Store, tmp_path: Path, name: str
) -> None:
    file = rewritten(write(store, tmp_path / "a.tar"), lambda _m: _with_file(store, name))
    with pytest.raises(Corrupt):
        read(file, other)
    assert other.folders() == []
    good = rewritten(file, lambda _m: _with_file(store, "x"))
    assert [a.kind for a in read(good, other)] == ["labels"]


def test_sizes_are_announced_and_kept(store: Store, other: Store, tmp_path: Path) -> None:
    """No room for what is announced: refused before the first byte. More than is announced: refused."""
    file = rewritten(write(store, tmp_path / "a.tar"), lambda _m: _with_file(store, "x", 1 << 50))
    with pytest.raises(FileError, match="disk is full"):
        read(file, other)
    rewritten(file, lambda _m: [(i, b"x" * 10 if i.name.endswith("/x") else c) for i, c in _with_file(store, "x")])
    with pytest.raises(Corrupt, match="has 10 bytes, expected 1"):
        read(file, other)


def test_headers_that_claim_much_are_not_read(tmp_path: Path, other: Store) -> None:
    """tarfile reads an extended header into memory, whatever size it claims."""
    claim = tarfile.TarInfo("pax")
    claim.type, claim.size = tarfile.XHDTYPE, 1 << 33
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb") as out:
        out.write(claim.tobuf(tarfile.GNU_FORMAT))
        out.write(b"\0" * (1 << 20))
    with pytest.raises(Corrupt, match=r"header of 8,589,934,592 bytes"):
        read(path, other)


def test_lineage_that_is_not_in_the_archive_must_be_here(store: Store, other: Store, tmp_path: Path) -> None:
    file = write(store, tmp_path / "a.tar", "native")
    kept = ("refusalctl", "activations", "selection")
    rewritten(file, lambda m: [each for each in m if each[0].name.startswith(kept)])
    with pytest.raises(Corrupt):
        read(file, other)
    assert other.folders() == []


def test_other_files_are_told_for_what_they_are(tmp_path: Path, other: Store) -> None:
    for content, told in (
        (b"", "is empty"),
        (b"<html>", "is a web page"),
        (b"no archive at all" * 99, "cannot be read"),
    ):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(Corrupt, match=told):
            read(tmp_path / "a.tar", other)
    with pytest.raises(FileError, match="there is no archive"):
        read(tmp_path / "none.tar", other)
    with pytest.raises(BadInput, match=r"end it in \.tar"):
        archive.check_archive(tmp_path / "a.zip")


def test_a_name_means_one_thing(store: Store, other: Store, tmp_path: Path) -> None:
    file = write(store, tmp_path / "a.tar")
    other.name("Native", put(other, "labels", b"other"))
    with archive.reading(file) as reader, pytest.raises(BadInput, match="is taken"):
        reader.check_names(other.names())


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_comes_after_the_last_artifact(store: Store, other: Store, tmp_path: Path, what: str) -> None:
    file = rewritten(write(store, tmp_path / "a.tar"), lambda m: [*m, HOSTILE[what]])
    with pytest.raises(Corrupt):
        read(file, other)
    assert other.names() == {}
