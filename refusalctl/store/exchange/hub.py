"""Artifacts in a dataset repository of the Hugging Face hub: `hf://datasets/owner/name`.

Read through the hub's own file system for fsspec, written by commits: a commit is there whole or not at all, and holds
whole artifacts, inputs before or with what was made from them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusalctl.errors import BadInput, StoreError
from refusalctl.file_errors import printable
from refusalctl.store.artifact import MANIFEST, RUN, Artifact
from refusalctl.store.exchange.card import MARK, card
from refusalctl.store.exchange.remote import UrlSide, require_sound
from refusalctl.store.exchange.shipment import TEXTS, Shipment, holds_texts
from refusalctl.store.exchange.sides import Advance, Key, Source
from refusalctl.store.hashing import canonical

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

_URL = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?/?")
_FORM = "the form is hf://datasets/owner/name, or hf://datasets/owner/name@branch"
CARD = "README.md"
MOST_FILES, MOST_BYTES = 500, 2_000_000_000  # of one commit: what a request carries, and what a retry sends again
TRIES, WAIT = 6, 1.0  # at a commit that another pusher was faster with; seconds before the second
_RACES = (409, 412)  # how the hub says so


class HubSide(UrlSide):
    """A dataset repository at one revision."""

    def __init__(self, url: str) -> None:
        found = _URL.fullmatch(url)
        if found is None:
            raise BadInput(f"{printable(url)} is no dataset repository", hint=_FORM)
        from huggingface_hub import HfApi, HfFileSystem, constants

        self.repository, self.revision = found[1], found[2]
        self.api: HfApi = HfApi(endpoint=constants.ENDPOINT)
        base = f"datasets/{self.repository}" + (f"@{self.revision}" if self.revision else "")
        super().__init__(HfFileSystem(endpoint=constants.ENDPOINT, skip_instance_cache=True), base, url)
        self._tree: dict[str, dict[str, int]] | None = None

    def _list(self, folder: str, *, folders: bool = False) -> dict[str, int]:
        """As for other URLs, but from one listing of the whole repository: each request counts here."""
        if self._tree is None:
            self._tree = self._listed()
        if not folders:
            return self._tree.get(folder, {})
        inside = {path.split("/")[1] for path in self._tree if path.startswith(f"{folder}/")}
        return dict.fromkeys(sorted(inside), 0)

    def _listed(self) -> dict[str, dict[str, int]]:
        """Files by folder, with their bytes; nothing where there is no such repository."""
        from huggingface_hub.errors import RepositoryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        tree: dict[str, dict[str, int]] = {}
        try:
            found = self.api.list_repo_tree(
                self.repository, recursive=True, revision=self.revision, repo_type="dataset"
            )
            for each in found:
                if isinstance(each, RepoFile):
                    folder, _, name = each.path.rpartition("/")
                    tree.setdefault(folder, {})[name] = each.size
        except RepositoryNotFoundError:
            return {}
        return tree

    def forget(self) -> None:
        """Ask again what is there."""
        self._tree = None
        self.fs.invalidate_cache()
        self.__dict__.pop("_ids", None)

    def sizes(self, keys: Sequence[Key]) -> dict[Key, dict[str, int]]:
        with self._talking("list"):
            return {key: self._list("/".join(key)) for key in keys}

    def receive(self, shipment: Shipment, source: Source, advance: Advance) -> None:  # noqa: ARG002 - a store here
        """Create the repository where there is none, private: making it public is its owner's decision, on the hub."""
        require_sound(shipment.artifacts)  # before anything is made there
        with self._talking("write to"):
            self.api.create_repo(self.repository, repo_type="dataset", private=True, exist_ok=True)
        parcels = list(_parcels(shipment.artifacts))
        for n, parcel in enumerate(parcels, 1):
            self._commit(parcel, {}, f"Artifacts, part {n} of {len(parcels)}: {len(parcel)}")
            advance(sum(a.size for a in parcel))
        self.forget()
        lost = {a.id for a in shipment.artifacts} - self.holding(shipment.artifacts, check=shipment.check)
        if lost:
            raise StoreError(f"{len(lost)} artifacts did not arrive whole in {self.where}", hint="send again")
        self._commit((), self._last(shipment), "Card and names of artifacts")
        self.forget()

    def _last(self, shipment: Shipment) -> dict[str, bytes]:
        """Names, and the card unless it is somebody's own."""
        found = {f"names/{name}": f"{target}\n".encode() for name, target in shipment.names.items()}
        everything = self.folders()
        texts = any(holds_texts(a) for a in (*shipment.artifacts, *shipment.there))
        texts |= any(kind in TEXTS for kind, _ in everything)
        known = (*shipment.artifacts, *shipment.there)
        with self._talking("read"):
            there = self._list("").get(CARD)
            old = self._read((CARD,), min(there, 1 << 16)).decode("utf-8", "replace") if there else MARK
        new = card(self.repository, everything, known, texts=texts)
        return found | ({CARD: new.encode()} if MARK in old and old != new else {})

    def _commit(self, artifacts: Sequence[Artifact], texts: dict[str, bytes], title: str) -> None:
        """One commit. Where another pusher was faster, it is tried again on top of theirs."""
        if not artifacts and not texts:
            return
        from huggingface_hub.errors import HfHubHTTPError

        for attempt in range(TRIES):
            operations = list(_operations(artifacts, texts))  # the library changes them: never used twice
            with self._talking("write to"):
                try:
                    self.api.create_commit(
                        self.repository,
                        operations,
                        commit_message=title,
                        repo_type="dataset",
                        revision=self.revision,
                    )
                except HfHubHTTPError as error:
                    status = error.response.status_code if error.response is not None else 0
                    if status not in _RACES:
                        raise
                else:
                    return
            if attempt < TRIES - 1:
                time.sleep(WAIT * 2**attempt)
        raise StoreError(f"{self.where} was changed by others all the time", hint="send again")


def _operations(artifacts: Sequence[Artifact], texts: dict[str, bytes]) -> Iterator[CommitOperationAdd]:
    from huggingface_hub import CommitOperationAdd

    for a in artifacts:
        for name in (*a.manifest["files"], RUN):
            yield CommitOperationAdd(f"{a.kind}/{a.id}/{name}", Path(a.path / name))
        yield CommitOperationAdd(f"{a.kind}/{a.id}/{MANIFEST}", canonical(a.manifest))
    for path, content in texts.items():
        yield CommitOperationAdd(path, content)


def _parcels(artifacts: Sequence[Artifact]) -> Iterator[tuple[Artifact, ...]]:
    """Artifacts in their order, as many at once as one commit may hold."""
    parcel: list[Artifact] = []
    files = size = 0
    for artifact in artifacts:
        more: Any = len(artifact.manifest["files"]) + 2
        if parcel and (files + more > MOST_FILES or size + artifact.size > MOST_BYTES):
            yield tuple(parcel)
            parcel, files, size = [], 0, 0
        parcel.append(artifact)
        files, size = files + more, size + artifact.size
    if parcel:
        yield tuple(parcel)
