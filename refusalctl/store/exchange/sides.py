"""Who gives and who receives artifacts: a store in a folder, or a place that only a URL names.

Every side has the layout of a store, `<kind>/<id>/` and `names/<name>`. Marks of recipes do not travel: a store writes
them when an artifact arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from refusalctl.disk import remove_tree, require_space
from refusalctl.errors import Corrupt
from refusalctl.store.artifact import MANIFEST, RUN, Artifact, missing
from refusalctl.store.exchange.arrivals import check_files
from refusalctl.store.exchange.shipment import Shipment
from refusalctl.store.hashing import canonical, short
from refusalctl.store.references import Shelves
from refusalctl.store.store import Store
from refusalctl.untrusted import DOCUMENT

Key = tuple[str, str]  # kind and id
Advance = Callable[[int], object]  # bytes that have arrived
BLOCK = 1 << 23  # bytes that are read at once
RETRY = "nothing of it was kept: try again, and if it stays so, its owner can mend it with `artifacts push --check`"


def expected(artifact: Artifact, sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of every file of an artifact but its manifest. Raises `Corrupt` where those that are there are not so
    long."""
    wanted = {name: int(facts["bytes"]) for name, facts in artifact.manifest["files"].items()}
    run = sizes.get(RUN)
    if run is None or run > DOCUMENT:
        raise Corrupt(f"{artifact.label}: its {RUN} is {'missing' if run is None else f'{run:,} bytes long'}")
    for name, size in wanted.items():
        if sizes.get(name) != size:
            found = "is missing" if name not in sizes else f"has {sizes[name]:,} bytes, expected {size:,}"
            raise Corrupt(f"{artifact.label}: {name} {found}")
    return {**wanted, RUN: run}


class Source(Shelves, Protocol):
    """Where artifacts come from."""

    def open_all(self, keys: Sequence[Key]) -> list[Artifact]:
        """Artifacts by their manifests, each checked against its id. Raises `Corrupt`, `NotFound`."""
        ...

    def sizes(self, keys: Sequence[Key]) -> dict[Key, dict[str, int]]:
        """Bytes of every file in the folders of artifacts; an artifact that is not there has none."""
        ...

    def fetch(self, key: Key, name: str, file: Path, size: int, advance: Advance) -> None:
        """Append to `file` what it lacks of a file's first `size` bytes. Raises `Corrupt` where there are fewer."""
        ...


class Receiver(Protocol):
    """Where artifacts go."""

    @property
    def where(self) -> str: ...
    def names(self) -> Mapping[str, str]: ...
    def folders(self, kind: str | None = None) -> Iterable[tuple[str, str]]: ...

    def holding(self, artifacts: Sequence[Artifact], *, check: bool) -> set[str]:
        """Ids of those that are there whole: in their sizes, or with `check` by every byte."""
        ...

    def receive(self, shipment: Shipment, source: Source, advance: Advance) -> None:
        """Take over what a shipment sends, inputs first, and then its names."""
        ...


class StoreSide:
    """A store in a folder."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def root(self) -> Path:
        return self.store.root

    @property
    def where(self) -> str:
        return self.store.where

    def names(self) -> dict[str, str]:
        return self.store.names()

    def folders(self, kind: str | None = None) -> list[tuple[str, str]]:
        return self.store.folders(kind)

    def open(self, kind: str, identifier: str) -> Artifact:
        return self.store.open(kind, identifier)

    def all(self, kind: str | None = None) -> list[Artifact]:
        return self.store.all(kind)

    def open_all(self, keys: Sequence[Key]) -> list[Artifact]:
        return [self.store.open(*key) for key in keys]

    def sizes(self, keys: Sequence[Key]) -> dict[Key, dict[str, int]]:
        homes = {key: self.root / key[0] / key[1] for key in keys}
        return {
            key: {p.name: p.stat().st_size for p in home.iterdir() if p.is_file() and not p.is_symlink()}
            if home.is_dir()
            else {}
            for key, home in homes.items()
        }

    def fetch(self, key: Key, name: str, file: Path, size: int, advance: Advance) -> None:
        with (self.root / key[0] / key[1] / name).open("rb") as content, file.open("ab") as out:
            content.seek(out.tell())
            while out.tell() < size:
                block = content.read(min(BLOCK, size - out.tell()))
                if not block:
                    raise Corrupt(
                        f"{key[0]}/{short(key[1])}/{name} in {self.where} has fewer bytes than its manifest says"
                    )
                out.write(block)
                advance(len(block))

    def holding(self, artifacts: Sequence[Artifact], *, check: bool) -> set[str]:
        return {a.id for a in artifacts if self._holds(a, check)}

    def _holds(self, artifact: Artifact, check: bool) -> bool:
        home = self.root / artifact.kind / artifact.id
        if missing(home, artifact.manifest) or not (home / RUN).is_file():
            return False
        return not check or self.store.is_whole(home)

    def receive(self, shipment: Shipment, source: Source, advance: Advance) -> None:
        """Each artifact is fetched into `partial/<its id>/`, which an interruption leaves for the next try, verified
        there, and moved into place. Raises `Corrupt` where it is not what its manifest says."""
        self.root.mkdir(parents=True, exist_ok=True)
        require_space(self.root, shipment.bytes)
        for artifact in shipment.artifacts:
            self._take(artifact, source, advance, shipment.check)
        for name, target in shipment.names.items():
            self.store.name(name, self.store.open(*target.split("/")))

    def _take(self, artifact: Artifact, source: Source, advance: Advance, check: bool) -> None:
        with self.store.partial(artifact.id) as room:
            if self._holds(artifact, check):  # another process has brought it meanwhile
                advance(artifact.size)
                return
            resumed = any(room.iterdir())
            try:
                self._arrive(room, artifact, source, advance)
            except Corrupt as error:
                remove_tree(room)
                room.mkdir()
                if not resumed:
                    raise Corrupt(f"{error.message} (from {source.where})", hint=RETRY) from error
                self._arrive(room, artifact, source, lambda _n: None)  # what a killed process left was not whole

    def _arrive(self, room: Path, artifact: Artifact, source: Source, advance: Advance) -> None:
        key = artifact.kind, artifact.id
        wanted = expected(artifact, source.sizes([key])[key])
        for path in room.iterdir():
            if path.name not in wanted or path.stat().st_size > wanted[path.name]:
                remove_tree(path)
        for name, size in wanted.items():
            (room / name).touch()
            source.fetch(key, name, room / name, size, advance)
        (room / MANIFEST).write_bytes(canonical(artifact.manifest))
        self.store.adopt(room, artifact)


class FolderSide(StoreSide):
    """Somebody else's store: nothing that its manifests say is believed before it has been checked."""

    def open(self, kind: str, identifier: str) -> Artifact:
        found = self.store.open(kind, identifier)
        check_files(found, self.where)
        return found

    def open_all(self, keys: Sequence[Key]) -> list[Artifact]:
        return [self.open(*key) for key in keys]

    def all(self, kind: str | None = None) -> list[Artifact]:
        return self.open_all(self.store.ids(kind))
