"""Artifacts at a URL, through fsspec: an object store, a server, memory.

Files of an artifact are sent before its manifest, inputs before what was made of them: what has no manifest does not
exist for anybody, so that a kill at any moment leaves no half artifact, and whoever sends again finds what is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from refusalctl.errors import BadInput, Corrupt, NotFound, RefusalctlError, StoreError
from refusalctl.file_errors import first_line, printable, system_reason
from refusalctl.store import names
from refusalctl.store.artifact import KINDS, MANIFEST, RUN, Artifact, payload_problems
from refusalctl.store.exchange.arrivals import arrived, is_run
from refusalctl.store.exchange.shipment import Shipment
from refusalctl.store.exchange.sides import BLOCK, Advance, Key, Source, expected
from refusalctl.store.hashing import canonical, short
from refusalctl.store.store import is_id
from refusalctl.untrusted import DOCUMENT, read_bytes

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 8  # requests on their way; more do not help where bytes are the limit
OBSTORE = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
UNSENT = "nothing of it was sent: see `artifacts verify`"
LONGEST_TARGET = 100  # bytes of `kind/id`
# what the libraries below fsspec raise for a network, a server or credentials, by the root of the module
_FOREIGN = ("obstore", "botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "huggingface_hub", "httpx",
            "httpx2", "httpcore2", "requests", "urllib3", "paramiko", "hf_xet")  # fmt: skip


def require_sound(artifacts: Sequence[Artifact]) -> None:
    """Raise `Corrupt` before what is damaged here is spread."""
    for artifact in artifacts:
        for problem in payload_problems(artifact):
            raise Corrupt(f"{problem.where}: {problem.what}", hint=UNSENT)
        try:
            sound = is_run(read_bytes(artifact.path / RUN, DOCUMENT))
        except (OSError, ValueError):
            sound = False
        if not sound:
            raise Corrupt(f"{artifact.label}/{RUN}: it is missing or was changed", hint=UNSENT)


class _Upload(NamedTuple):
    file: Path
    path: str
    size: int


class UrlSide:
    """The layout of a store below a URL. `where` shows it without what a password may be."""

    def __init__(self, fs: Any, base: str, where: str) -> None:
        self.fs, self.base, self.where = fs, base.rstrip("/"), where
        self._threads = AT_ONCE if getattr(fs, "async_impl", False) else 1

    @property
    def root(self) -> None:
        """No folder: nothing is looked up by its path."""
        return None

    # --- reading -------------------------------------------------------------------------------------------

    def names(self) -> dict[str, str]:
        """Name to `kind/id`; what could be neither is passed over."""
        with self._talking("read"):
            files = [name for name, size in self._list("names").items() if size <= LONGEST_TARGET and _is_name(name)]
            texts = self._each(lambda name: self._read(("names", name), LONGEST_TARGET), files)
        found = zip(files, (text.decode("ascii", "replace").strip() for text in texts))
        return {names.plain(name): text for name, text in found if _is_target(text)}

    @cached_property
    def _ids(self) -> dict[str, list[str]]:
        with self._talking("list"):
            found = self._each(lambda kind: [n for n in self._list(kind, folders=True) if is_id(n)], KINDS)
        return dict(zip(KINDS, found))

    def folders(self, kind: str | None = None) -> list[tuple[str, str]]:
        """(kind, id) of every artifact, also of one whose manifest has not arrived yet."""
        return [(k, i) for k in (KINDS if kind is None else (kind,)) for i in self._ids.get(k, ())]

    def open(self, kind: str, identifier: str) -> Artifact:
        return self.open_all([(kind, identifier)])[0]

    def all(self, kind: str | None = None) -> list[Artifact]:
        """Every artifact whose manifest is there."""
        keys, sizes = self.folders(kind), self.sizes(self.folders(kind))
        return self._open_known([key for key in keys if MANIFEST in sizes[key]], sizes)

    def open_all(self, keys: Sequence[Key]) -> list[Artifact]:
        return self._open_known(keys, self.sizes(keys))

    def _open_known(self, keys: Sequence[Key], sizes: dict[Key, dict[str, int]]) -> list[Artifact]:
        for key in keys:
            if MANIFEST not in sizes[key]:
                raise NotFound(
                    f"{key[0]}/{short(key[1])} is not in {self.where}, or has not arrived there yet",
                    hint="see what it has with `artifacts pull --all --dry-run`, or send it again",
                )
            if sizes[key][MANIFEST] > DOCUMENT:
                raise Corrupt(f"the {MANIFEST} of {key[0]}/{short(key[1])} in {self.where} is far too long")
        with self._talking("read"):
            texts = self._each(lambda key: self._read((*key, MANIFEST), sizes[key][MANIFEST]), keys)
        return [arrived(text, *key, Path(), self.where) for key, text in zip(keys, texts)]

    def sizes(self, keys: Sequence[Key]) -> dict[Key, dict[str, int]]:
        with self._talking("list"):
            return dict(zip(keys, self._each(lambda key: self._list("/".join(key)), keys)))

    def fetch(self, key: Key, name: str, file: Path, size: int, advance: Advance) -> None:
        there = self._path(*key, name)
        with file.open("ab") as out:
            while out.tell() < size:
                with self._talking("read"):
                    block = self.fs.cat_file(there, start=out.tell(), end=min(size, out.tell() + BLOCK))
                if not block or out.tell() + len(block) > size:
                    raise Corrupt(f"{key[0]}/{short(key[1])}/{name} in {self.where} was changed while it was read")
                out.write(block)
                advance(len(block))

    def holding(self, artifacts: Sequence[Artifact], *, check: bool) -> set[str]:
        sizes = self.sizes([(a.kind, a.id) for a in artifacts])
        return {a.id for a in artifacts if self._is_whole(a, sizes[a.kind, a.id]) and (not check or self._is_good(a))}

    @staticmethod
    def _is_whole(artifact: Artifact, sizes: dict[str, int]) -> bool:
        try:
            expected(artifact, sizes)
        except Corrupt:
            return False
        return sizes.get(MANIFEST) == len(canonical(artifact.manifest))

    def _is_good(self, artifact: Artifact) -> bool:
        """By every byte, which is read."""
        wanted = {name: (facts["bytes"], facts["sha256"]) for name, facts in artifact.manifest["files"].items()}
        wanted[MANIFEST] = (len(canonical(artifact.manifest)), artifact.id)
        with self._talking("read"):
            parts = [(self._path(artifact.kind, artifact.id, name), *facts) for name, facts in wanted.items()]
            if not is_run(self._read((artifact.kind, artifact.id, RUN), DOCUMENT)):
                return False
            return all(self._each(lambda part: self._digest(part[0], part[1]) == part[2], parts))

    def _digest(self, path: str, size: int) -> str:
        found, at = sha256(), 0
        while at < size:
            block = self.fs.cat_file(path, start=at, end=min(size, at + BLOCK))
            if not block:
                break
            found.update(block)
            at += len(block)
        return found.hexdigest()

    # --- writing -------------------------------------------------------------------------------------------

    def receive(self, shipment: Shipment, source: Source, advance: Advance) -> None:  # noqa: ARG002 - a store here
        """Raises `StoreError` where the other side refuses, or has other sizes afterwards."""
        for level in shipment.levels:
            self._take(level, shipment.check, advance)
        with self._talking("write to"):
            for name, target in shipment.names.items():
                self._write(("names", name), f"{target}\n".encode())

    def _take(self, level: Sequence[Artifact], again: bool, advance: Advance) -> None:
        """Files of these artifacts, as far as they are not there, and then their manifests."""
        require_sound(level)
        keys = [(a.kind, a.id) for a in level]
        sizes = self.sizes(keys)
        uploads = []
        for artifact, key in zip(level, keys):
            for name in (*artifact.manifest["files"], RUN):
                file = artifact.path / name
                each = _Upload(file, self._path(*key, name), file.stat().st_size)
                if again or sizes[key].get(name) != each.size:
                    uploads.append(each)
                else:
                    advance(each.size if name != RUN else 0)
        with self._talking("write to"):
            self._each(lambda each: self._upload(each, advance), uploads)
        self._compare(level)
        with self._talking("write to"):
            self._each(lambda a: self._write((a.kind, a.id, MANIFEST), canonical(a.manifest)), level)
        damaged = [a.label for a in level if again and not self._is_good(a)]
        if damaged:
            raise StoreError(f"{', '.join(damaged)} did not arrive whole in {self.where}", hint="send it again")

    def _compare(self, level: Sequence[Artifact]) -> None:
        sizes = self.sizes([(a.kind, a.id) for a in level])
        for artifact in level:
            try:
                expected(artifact, sizes[artifact.kind, artifact.id])
            except Corrupt as error:
                raise StoreError(f"{error.message} in {self.where}, after it was sent", hint="send it again") from error

    def _upload(self, each: _Upload, advance: Advance) -> None:
        self._make_room(each.path)
        self.fs.put_file(str(each.file), each.path)
        advance(each.size if each.file.name != RUN else 0)

    def _write(self, parts: Sequence[str], content: bytes) -> None:
        path = self._path(*parts)
        self._make_room(path)
        self.fs.pipe_file(path, content)

    def _make_room(self, path: str) -> None:
        """Folders, where a file system has them; object stores have none."""
        if not getattr(self.fs, "async_impl", False):
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    # --- one request ---------------------------------------------------------------------------------------

    def _path(self, *parts: str) -> str:
        return "/".join((self.base, *parts))

    def _read(self, parts: Sequence[str], size: int) -> bytes:
        """At most `size` bytes of a file."""
        found = self.fs.cat_file(self._path(*parts), start=0, end=size) if size else b""
        return bytes(found[:size])

    def _list(self, folder: str, *, folders: bool = False) -> dict[str, int]:
        """Names of the files in a folder, or of its folders, with their bytes; none where there is no such folder."""
        self.fs.invalidate_cache()
        try:
            entries = self.fs.ls(self._path(*folder.split("/")), detail=True)
        except FileNotFoundError:
            return {}
        wanted = "directory" if folders else "file"
        return {e["name"].rstrip("/").rpartition("/")[2]: e["size"] or 0 for e in entries if e["type"] == wanted}

    def _each(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Several requests at once. After an error, or Ctrl-C, what has not begun is not begun."""
        if self._threads == 1:
            return [work(each) for each in items]
        pool = ThreadPoolExecutor(self._threads)
        try:
            return list(pool.map(work, items))
        finally:
            pool.shutdown(cancel_futures=True)

    @contextmanager
    def _talking(self, doing: str) -> Iterator[None]:
        """What a network, a server or its library says is one line; what the operating system says of files here is
        left to others, and a bug keeps its traceback."""
        try:
            yield
        except RefusalctlError:
            raise
        except NotImplementedError as error:
            raise StoreError(f"cannot {doing} {self.where}: its file system has no such operation") from error
        except Exception as error:
            module = type(error).__module__.partition(".")[0]
            network = isinstance(error, OSError) and system_reason(error) is None
            network |= isinstance(error, ConnectionError | TimeoutError)
            # one without a file's name is a server's; a file that vanished here is none of it
            network |= isinstance(error, FileNotFoundError) and error.filename is None
            if module not in _FOREIGN and not network:
                raise
            said = re.search(r"<Message>([^<]+)", str(error))  # of S3 and its like, inside what a library says
            told = printable(said[1] if said else first_line(error))
            raise StoreError(
                f"cannot {doing} {self.where}: {told}", hint="check address, rights and network"
            ) from error


def _is_name(name: str) -> bool:
    try:
        names.check_name(name)
    except BadInput:
        return False
    return True


def _is_target(text: str) -> bool:
    kind, _, identifier = text.partition("/")
    return kind in KINDS and is_id(identifier)


def shown(url: str) -> str:
    """A URL for people: without the user, password and key that may stand in it."""
    parts = urlsplit(url)
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}")


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it.

    What the user has installed for a protocol (s3fs, gcsfs, adlfs, ...) is used; else obstore, which the extra
    `remote` brings. Raises `BadInput` where nothing here speaks the protocol.
    """
    import fsspec

    protocol = url.partition("://")[0]
    if protocol in ("http", "https"):
        raise BadInput(
            f"{shown(url)} can only be read file by file",
            hint="download an archive and use `artifacts import`, or name the object store itself",
        )
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise BadInput(f"{shown(url)}: no program here speaks {printable(protocol)}://") from error
    except ImportError as error:
        if protocol not in OBSTORE:
            raise BadInput(f"{shown(url)} needs a library: {first_line(error)}") from error
        return _obstore(url, OBSTORE[protocol])
    options = kind._get_kwargs_from_urls(url)
    return kind(**options, skip_instance_cache=True), kind._strip_protocol(url)


def _obstore(url: str, protocol: str) -> tuple[Any, str]:
    try:
        from obstore.fsspec import FsspecStore
    except ImportError as error:
        raise BadInput(f"{shown(url)} needs a library", hint="pip install 'refusalctl[remote]'") from error
    parts = urlsplit(url)
    retry = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
    options = {"allow_http": True} if _plain_http() else None
    make: Any = FsspecStore  # fsspec's own keyword is none of its signatures
    fs = make(protocol, retry_config=retry, client_options=options, skip_instance_cache=True)
    return fs, f"{parts.netloc}{parts.path}".rstrip("/")


def _plain_http() -> bool:
    """Whether the address of the object store that the environment names has no TLS, as servers at home have."""
    addresses = (os.environ.get(n, "") for n in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
    return next((address for address in addresses if address), "").startswith("http://")
