"""Artifacts in one tar file: what `artifacts export` writes and `artifacts import` reads.

`refusalctl-archive.json` comes first and says what follows: for each artifact, inputs first, its manifest, its payload
files by name, and its `run.json`. The same artifacts give the same bytes. An archive is read once from its beginning,
and nothing is unpacked by tar's own rules: a member is taken only where its place and its size are those that the
manifest before it gave; links, devices, folders and everything else are refused.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from refusalctl.disk import require_space, whole
from refusalctl.errors import BadInput, Corrupt, FileError
from refusalctl.file_errors import explained, printable, what_is_there
from refusalctl.store import names as store_names
from refusalctl.store.artifact import KINDS, MANIFEST, RUN, Artifact
from refusalctl.store.exchange.arrivals import arrived
from refusalctl.store.exchange.planning import check_names
from refusalctl.store.exchange.shipment import Shipment
from refusalctl.store.exchange.sides import BLOCK, Advance, StoreSide
from refusalctl.store.hashing import canonical, short
from refusalctl.store.manifest import Count, Digest
from refusalctl.store.store import Store
from refusalctl.untrusted import DOCUMENT

HEADER = "refusalctl-archive.json"
_LONGEST_HEADER = 1 << 26  # bytes; 100,000 artifacts take 12 million
_LONGEST_EXTENSION = 1 << 16  # bytes of a pax or GNU header, which tarfile reads at once; ours have none
_GZIP = b"\x1f\x8b"
_LEVEL = 6


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One artifact of an archive; bytes of its payload."""

    kind: str
    id: Digest
    bytes: Count


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive says of itself."""

    artifacts: tuple[Entry, ...]
    chosen: tuple[Digest, ...]
    names: dict[str, str]
    format: Literal["refusalctl.archive"] = "refusalctl.archive"
    version: Annotated[int, Meta(ge=1)] = 1


# --- writing ------------------------------------------------------------------------------------------------


def is_archive(path: Path) -> bool:
    """Whether a path is called as an archive."""
    return path.name.endswith((".tar", ".tar.gz", ".tgz"))


def check_archive(path: Path) -> None:
    """Raise `BadInput` for a path that no archive can be written to."""
    if not is_archive(path):
        raise BadInput(f"{printable(str(path))} is not called as an archive", hint="end it in .tar or .tar.gz")


def export(shipment: Shipment, store: Store, path: Path, advance: Advance) -> None:
    """Write an archive; the file is there whole or not at all. Raises `Corrupt` for artifacts that are damaged here."""
    entries = tuple(Entry(a.kind, a.id, a.size) for a in shipment.artifacts)
    header = Header(entries, tuple(a.id for a in shipment.chosen), dict(shipment.names))
    with explained("write", path), whole(path) as draft, _packed(draft, path.name.endswith("gz")) as archive:
        _add(archive, HEADER, canonical(msgspec.to_builtins(header)))
        for artifact in shipment.artifacts:
            store.check(artifact)
            store.run_info(artifact)
            _add(archive, f"{artifact.kind}/{artifact.id}/{MANIFEST}", canonical(artifact.manifest))
            for name in (*sorted(artifact.manifest["files"]), RUN):
                _add_file(archive, artifact, name)
            advance(artifact.size)


@contextmanager
def _packed(draft: Path, gz: bool) -> Iterator[tarfile.TarFile]:
    with ExitStack() as open_files:
        out: Any = open_files.enter_context(draft.open("wb"))
        if gz:  # without the file's name and the time
            packer = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=out, mtime=0)
            out = open_files.enter_context(packer)
        yield open_files.enter_context(tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A header that says nothing but the name and the size: no time, no owner, one mode."""
    found = tarfile.TarInfo(name)
    found.size, found.mode, found.mtime = size, 0o644, 0
    return found


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_member(name, len(content)), io.BytesIO(content))


def _add_file(archive: tarfile.TarFile, artifact: Artifact, name: str) -> None:
    file = artifact.path / name
    with file.open("rb") as content:
        archive.addfile(_member(f"{artifact.kind}/{artifact.id}/{name}", file.stat().st_size), content)


# --- reading ------------------------------------------------------------------------------------------------


class _Careful(tarfile.TarInfo):
    """A member's header; tarfile reads extended headers whole into memory, whatever size they claim."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) and found.size > _LONGEST_EXTENSION:
            raise Corrupt(f"the archive holds a header of {found.size:,} bytes", hint="it was not made by `export`")
        return found


class Reader:
    """An archive, read from its beginning to its end."""

    def __init__(self, path: Path, archive: tarfile.TarFile) -> None:
        self.path, self.archive = path, archive
        self.header = self._header()

    def _header(self) -> Header:
        member = self._next()
        if member is None or member.name != HEADER or member.size > _LONGEST_HEADER:
            raise Corrupt(
                f"{self.shown} is no archive of artifacts", hint="make one with `refusalctl artifacts export`"
            )
        try:
            found = msgspec.json.decode(self._content(member), type=Header)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Corrupt(f"{self.shown} says nothing of what it holds: {printable(str(error))[:160]}") from error
        if found.version != 1:
            raise Corrupt(
                f"{self.shown} has version {found.version}, this refusalctl reads 1", hint="upgrade refusalctl"
            )
        self._check(found)
        return found

    def _check(self, header: Header) -> None:
        for entry in header.artifacts:
            if entry.kind not in KINDS:
                raise Corrupt(f"{self.shown} holds the kind {printable(entry.kind)[:40]}", hint="upgrade refusalctl")
        if not set(header.chosen) <= {entry.id for entry in header.artifacts}:
            raise Corrupt(f"{self.shown} was asked for what it does not hold")
        there = {f"{entry.kind}/{entry.id}" for entry in header.artifacts}
        for name, target in header.names.items():
            store_names.check_name(name)
            if target not in there:
                raise Corrupt(f"{self.shown} has the name {name!r} for something that it does not hold")

    def end(self) -> None:
        """Raise `Corrupt` where something comes after the last artifact."""
        extra = self.archive.next()
        if extra is not None:
            raise Corrupt(f"{self.shown} holds {printable(extra.name)[:120]!r} after its last artifact")

    def check_names(self, there: Mapping[str, str]) -> None:
        """Raise `BadInput` where a name of the archive means something else here."""
        check_names(self.header.names, there, "the store")

    @property
    def shown(self) -> str:
        return printable(str(self.path))

    def manifest(self, entry: Entry) -> Artifact:
        """The next artifact by its manifest. Raises `Corrupt` where another member comes."""
        member = self._expect(f"{entry.kind}/{entry.id}/{MANIFEST}")
        if member.size > DOCUMENT:
            raise Corrupt(f"{self.shown}: the {MANIFEST} of {entry.kind}/{short(entry.id)} is far too long")
        found = arrived(self._content(member), entry.kind, entry.id, Path(), self.shown)
        if found.size != entry.bytes:
            raise Corrupt(f"{self.shown} announces {entry.bytes:,} bytes for {found.label}, which has {found.size:,}")
        return found

    def files(self, artifact: Artifact, room: Path | None, advance: Advance) -> None:
        """The files of the artifact whose manifest was just read, into `room`, or past."""
        sizes = {name: int(facts["bytes"]) for name, facts in sorted(artifact.manifest["files"].items())}
        for name, size in {**sizes, RUN: None}.items():
            member = self._expect(f"{artifact.kind}/{artifact.id}/{name}")
            if member.size > DOCUMENT if size is None else member.size != size:
                raise Corrupt(f"{self.shown}: {artifact.label}/{name} has {member.size:,} bytes, expected {size}")
            if room is not None:
                self._copy(member, room / name, advance if size is not None else lambda _n: None)

    def _copy(self, member: tarfile.TarInfo, file: Path, advance: Advance) -> None:
        content = self._opened(member)
        with file.open("xb") as out:
            while block := content.read(BLOCK):
                out.write(block)
                advance(len(block))

    def _expect(self, name: str) -> tarfile.TarInfo:
        member = self._next()
        if member is None:
            raise Corrupt(f"{self.shown} ends before {name}", hint="it was cut short: get it again; what came is kept")
        if member.name != name:
            raise Corrupt(f"{self.shown} holds {printable(member.name)[:120]!r} where {name} should come")
        return member

    def _next(self) -> tarfile.TarInfo | None:
        member = self.archive.next()
        if member is not None and not (member.isreg() and not member.issparse()):
            raise Corrupt(f"{self.shown} holds {printable(member.name)[:120]!r}, which is no plain file")
        return member

    def _content(self, member: tarfile.TarInfo) -> bytes:
        return self._opened(member).read()

    def _opened(self, member: tarfile.TarInfo) -> IO[bytes]:
        found: Any = self.archive.extractfile(member)
        return found  # type: ignore[no-any-return]  # a plain file has one


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open an archive. Raises `Corrupt` for what is none, or is damaged, wherever that shows."""
    with explained("read", path):
        if not path.is_file():
            raise FileError(f"there is no archive {printable(str(path))}", hint="check the path")
        try:
            with _unpacked(path) as archive:
                yield Reader(path, archive)
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            seen = what_is_there(path)
            told = seen.what if seen is not None else f"cannot be read: {printable(str(error))[:120]}"
            hint = seen.hint if seen is not None else "it is damaged or was cut short: get it again; what came is kept"
            raise Corrupt(f"{printable(str(path))} {told}", hint=hint) from error


@contextmanager
def _unpacked(path: Path) -> Iterator[tarfile.TarFile]:
    with ExitStack() as open_files:
        content: Any = open_files.enter_context(path.open("rb"))
        gz = content.read(2) == _GZIP
        content.seek(0)
        if gz:
            content = open_files.enter_context(gzip.GzipFile(fileobj=content, mode="rb"))
        yield open_files.enter_context(tarfile.open(fileobj=content, mode="r|", tarinfo=_Careful))


def take(reader: Reader, store: Store, *, names: bool, advance: Advance) -> list[Artifact]:
    """Take over what a store lacks of an archive, each artifact verified before it counts. What was taken over.

    Raises `Corrupt` for an archive that is not what it says; what came before the damage is kept, and is whole.
    """
    if names:
        reader.check_names(store.names())
    store.root.mkdir(parents=True, exist_ok=True)
    require_space(store.root, sum(entry.bytes for entry in reader.header.artifacts))
    side, taken = StoreSide(store), []
    known = {identifier for _, identifier in store.ids()}
    for entry in reader.header.artifacts:
        artifact = reader.manifest(entry)
        lost = [i for i in artifact.inputs.values() if i not in known]
        if lost:
            raise Corrupt(f"{artifact.label} was made from {short(lost[0])}, which comes neither before it nor is here")
        known.add(entry.id)
        if side.holding([artifact], check=False):
            reader.files(artifact, None, advance)
            continue
        with store.draft() as room:
            reader.files(artifact, room, advance)
            (room / MANIFEST).write_bytes(canonical(artifact.manifest))
            try:
                taken.append(store.adopt(room, artifact))
            except Corrupt as error:
                raise Corrupt(f"{error.message} (from {reader.shown})", hint="get the archive again") from error
    reader.end()
    for name, target in reader.header.names.items() if names else ():
        store.name(name, store.open(*target.split("/")))
    return taken
