"""The artifact store: `<kind>/<id>/` with a manifest and payload files.

An artifact is there whole or not at all: payload files and then the manifest are written into `tmp/`, and
the folder is renamed into place. `recipes/<key>/<id>` says which artifact a recipe gave (see `marks`), `names/<name>`
holds the id that a name points to (see `names`), `partial/<key>/` keeps what an interrupted step had finished.

An artifact counts where its manifest gives its id and its files are there in their sizes; what an interrupted copy left
is passed over, told of, and replaced by the next run. What other programs left (`disk.is_foreign`) is never looked at.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from refusalctl.disk import free_words, make_durable, remove_tree, sync
from refusalctl.errors import BadInput, Corrupt, NotFound, StoreError
from refusalctl.file_errors import printable, reason, system_reason
from refusalctl.json_types import Json, JsonObject
from refusalctl.locks import locked
from refusalctl.redaction import redacted_run
from refusalctl.store import manifest as manifests
from refusalctl.store import marks, names, references
from refusalctl.store.artifact import (
    KINDS,
    MANIFEST,
    RUN,
    Artifact,
    explained_read,
    missing,
    payload_problems,
    written,
)
from refusalctl.store.dead import sweep_dead
from refusalctl.store.drafts import aside_name, draft_name
from refusalctl.store.hashing import canonical, content_digest, digest, file_digest, short
from refusalctl.store.rooms import cleared, require_own
from refusalctl.untrusted import Refused, parse_object, read_bytes

__all__ = ["KINDS", "MANIFEST", "RUN", "Artifact", "Store", "is_id"]
_HEX = frozenset("0123456789abcdef")
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)  # what a rename onto something says
_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_CHOOSE = "choose a store you may write to with --store or REFUSALCTL_STORE"
REMOVE = "remove it with `refusalctl artifacts rm` to compute it again"


def is_id(name: str) -> bool:
    """Whether a folder's name is an artifact id (or a recipe key)."""
    return len(name) == 64 and set(name) <= _HEX


class Store:
    """Artifacts below one folder. Creating the object touches nothing on disk.

    `tell` hears what a person should know at once: whom one waits for, and what is damaged; each text once.
    """

    def __init__(self, root: Path, tell: Callable[[str], None] | None = None) -> None:
        self.root = root
        self._tell, self._told, self._swept = tell, set[str](), False

    @property
    def where(self) -> str:
        return str(self.root)

    def tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            if self._tell is not None:
                self._tell(text)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around everything that writes into the store: what the operating system refuses is one line, and so is a
        folder of the store's own that leads elsewhere."""
        require_own(self.root)
        try:
            yield
        except OSError as error:
            code, named = system_reason(error) or (0, None)
            known = reason(code)
            elsewhere = named is not None and not Path(named).absolute().is_relative_to(self.root.absolute())
            if known is None or elsewhere:
                raise
            hint = _CHOOSE if code in _PLACE else known.hint
            left = free_words(self.root) if code == errno.ENOSPC else ""
            problem = f"cannot write to the store {printable(str(self.root))}: {known.what}{left}"
            raise StoreError(problem, hint=hint) from error

    # --- writing ---------------------------------------------------------------------------------------

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder to write payload files into; removed on any exit, also on Ctrl-C."""
        folder = self.root / "tmp" / draft_name()
        with self.writing():
            if not self._swept:  # what killed processes left on this machine; a start finds it
                self._swept = True
                sweep_dead(self.root)
            try:
                make_durable(folder)  # a disk may refuse it when it is there already
                yield folder
            finally:
                remove_tree(folder)

    def commit(
        self,
        draft: Path,
        kind: str,
        recipe: Mapping[str, Json],
        about: Mapping[str, Json],
        run: Mapping[str, object],
    ) -> Artifact:
        """Move a draft into place. Two writers of one artifact both succeed; the first one's files stay, if whole."""
        with self.writing():
            files: JsonObject = {}
            for path in sorted(draft.iterdir()):
                files[path.name] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
            manifest: JsonObject = {"format": "refusalctl.artifact", "version": 1, "kind": kind}
            manifest |= {"recipe": recipe, "about": about, "files": files}
            identifier, key = digest(manifest), digest(recipe)
            run = {**redacted_run(run), "written": self._after(key)}
            (draft / RUN).write_bytes(canonical({"digest": digest(run), "run": run}))
            (draft / MANIFEST).write_bytes(canonical(manifest))
            return self._settle(draft, identifier, manifest)

    def adopt(self, draft: Path, artifact: Artifact) -> Artifact:
        """Move an artifact that came from elsewhere into place, as `commit` does; its files and its manifest, which has
        been checked, lie in `draft`. Raises `Corrupt` where they are not what the manifest says."""
        here = Artifact(artifact.kind, artifact.id, draft, artifact.manifest)
        self.check(here)
        self.run_info(here)
        with self.writing():
            make_durable(self.root / "tmp")  # where a damaged one is put aside
            return self._settle(draft, artifact.id, artifact.manifest)

    def _settle(self, draft: Path, identifier: str, manifest: JsonObject) -> Artifact:
        """A complete draft becomes an artifact, on the disk before it is seen; the recipe says before what it gave."""
        kind, key = str(manifest["kind"]), digest(manifest["recipe"])
        for path in (*draft.iterdir(), draft):
            sync(path)
        home = self.root / kind / identifier
        try:
            marks.write(self.root, key, identifier, canonical(manifest))
            self._place(draft, home, identifier)
        except BaseException:
            marks.drop(self.root, marks.read(self.root / marks.ROOM / key / identifier))
            raise
        marks.write(self.root, key, identifier, canonical(manifest))  # if one who removes it took it away meanwhile
        return Artifact(kind, identifier, home, manifest)

    def _after(self, key: str) -> float:
        """Now, or just after the newest result of this recipe where a clock is late: the order must stay."""
        return max([time.time(), *(self.written(a) + 1e-3 for a in self.results(key))])

    def _place(self, draft: Path, home: Path, identifier: str) -> None:
        make_durable(home.parent)
        try:
            draft.rename(home)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            with locked(self.root / "tmp" / f"{identifier}.lock", self.tell):  # one replaces what is damaged
                if self.is_whole(home):
                    return
                broken = self.root / "tmp" / aside_name(home.parent.name, identifier)
                if home.exists():
                    home.rename(broken)
                try:
                    draft.rename(home)
                except BaseException:
                    with suppress(OSError):
                        broken.rename(home)
                    raise
                remove_tree(broken)
        sync(home.parent)

    def is_whole(self, home: Path) -> bool:
        """Whether an artifact that is there can stay in place of the same one, computed again: every byte is read."""
        try:
            artifact = self.open(home.parent.name, home.name)
            self.run_info(artifact)
        except StoreError:
            return False
        return not any(payload_problems(artifact))

    @contextmanager
    def partial(self, key: str, needs: Sequence[str] = ()) -> Iterator[Path]:
        """A folder that outlives an interruption, for one computation at a time; a second writer waits, and is told
        for whom. `needs`: ids of what it is computed from, which `gc` keeps meanwhile."""
        folder = self.root / "partial" / key
        with self.writing():
            make_durable(folder.parent)
            with locked(folder.with_suffix(".lock"), self.tell, needs=needs) as lease:
                cleared(folder).mkdir(exist_ok=True)
                try:
                    yield folder
                except BaseException:
                    with suppress(OSError):  # nothing was kept in it
                        folder.rmdir()
                    raise
                # what is finished has become an artifact; an exception leaves the folder for the next run, and so does
                # the loss of the lease: it is another's
                with suppress(OSError):  # whose it is cannot be seen: left
                    if not lease.lost and lease.ours():
                        remove_tree(folder)

    def name(self, name: str, artifact: Artifact) -> None:
        """Let `name` point to an artifact. Raises `BadInput` for a name that looks like an id or a path."""
        with self.writing():
            names.point(self.root, name, f"{artifact.kind}/{artifact.id}")

    # --- reading ---------------------------------------------------------------------------------------

    @staticmethod
    def read_manifest(folder: Path) -> Any:
        """What a folder's manifest holds, unchecked."""
        return manifests.parsed(read_bytes(folder / MANIFEST))

    def open(self, kind: str, identifier: str) -> Artifact:
        """Read one artifact's manifest. Raises `NotFound`, or `Corrupt` when it does not give this id."""
        path = self.root / kind / identifier
        if path.is_symlink():
            raise Corrupt(
                f"{kind} {short(identifier)} is a symbolic link, which may lead out of the store", hint=REMOVE
            )
        try:
            content = read_bytes(path / MANIFEST)
            manifest = manifests.parsed(content)
        except (FileNotFoundError, NotADirectoryError) as error:
            if path.is_dir():
                hint = f"a copy was interrupted: finish it, or {REMOVE}"
                raise Corrupt(f"{kind} {short(identifier)} has no manifest", hint=hint) from error
            raise NotFound(f"there is no {kind} {short(identifier)} in {self.root}") from error
        except ValueError as error:
            why = str(error) if isinstance(error, Refused) else "it is not JSON"
            hint = f"see `refusalctl artifacts verify`; {REMOVE}"
            raise Corrupt(f"{path / MANIFEST} cannot be read: {why}", hint=hint) from error
        except OSError as error:
            raise explained_read(error, path / MANIFEST) from error
        version = manifest.get("version")
        if version != 1:
            raise Corrupt(
                f"{kind} {short(identifier)} has format version {version!r}, this refusalctl reads version 1",
                hint="upgrade refusalctl",
            )
        if content_digest(content) != identifier:
            raise Corrupt(
                f"the manifest of {kind} {short(identifier)} was changed",
                hint=f"see `refusalctl artifacts verify`; {REMOVE}",
            )
        return Artifact(kind, identifier, path, manifests.checked(manifest, kind, f"{kind} {short(identifier)}"))

    def find(self, recipe_key: str) -> Artifact | None:
        """The finished artifact of a recipe; the oldest, where a recipe gave more than one."""
        results = self.results(recipe_key)
        return results[0] if results else None

    def results(self, recipe_key: str) -> list[Artifact]:
        """Every whole artifact that a recipe gave, oldest first. More than one is a finding to report."""
        found = [a for a in self._given(recipe_key) if isinstance(a, Artifact)]
        return sorted(found, key=lambda a: (self.written(a), a.id)) if len(found) > 1 else found

    def damaged(self, recipe_key: str) -> list[str]:
        """What is wrong with artifacts that a recipe gave: they are computed again."""
        return [problem for problem in self._given(recipe_key) if isinstance(problem, str)]

    def _given(self, recipe_key: str) -> Iterator[Artifact | str]:
        for mark in marks.of_recipe(self.root, recipe_key):
            home = next((k for k in (mark.kind, *KINDS) if k in KINDS and (self.root / k / mark.id).is_dir()), None)
            if not is_id(mark.id) or home is None:
                continue
            try:
                artifact = self.open(home, mark.id)
            except Corrupt as error:
                yield error.message
                continue
            except NotFound:  # removed just now
                continue
            lacking = missing(artifact.path, artifact.manifest)
            if digest(artifact.manifest["recipe"]) != recipe_key:
                yield f"{artifact.label} is of another recipe than is marked"
            else:
                yield f"{artifact.label}: {lacking}" if lacking else artifact

    def written(self, artifact: Artifact) -> float:
        """When an artifact was written, in seconds since the epoch: what it says itself, which a copy keeps."""
        return written(artifact.path)

    def folders(self, kind: str | None = None) -> list[tuple[str, str]]:
        """(kind, id) of every folder that is called as an artifact, also of what an interrupted copy left."""
        kinds = KINDS if kind is None else (kind,)
        return [(k, name) for k in kinds for name in marks.names_in(self.root / k) if is_id(name)]

    def ids(self, kind: str | None = None) -> list[tuple[str, str]]:
        """(kind, id) of every finished artifact, in no particular order of time."""
        return [(k, name) for k, name in self.folders(kind) if (self.root / k / name / MANIFEST).is_file()]

    def all(self, kind: str | None = None) -> list[Artifact]:
        """Every artifact, oldest first. Damaged ones are told of and passed over."""
        found = []
        for each, identifier in self.ids(kind):
            try:
                found.append(self.open(each, identifier))
            except (Corrupt, NotFound) as error:
                self.tell(f"{error.message}: it is passed over")
        return sorted(found, key=lambda a: (self.written(a), a.id))

    def names(self) -> dict[str, str]:
        """Name to `kind/id`."""
        return names.listed(self.root)

    def resolve(self, reference: str, kind: str | None = None) -> Artifact:
        """The one artifact that a full id, unique prefix, name, folder or query such as `directions:lang=ba` means.

        Raises `NotFound`, `Ambiguous` (naming the candidates), or `BadInput` when it is of another kind.
        """
        return _of_kind(references.resolve(self, reference), reference, kind)

    def resolve_all(self, reference: str, kind: str) -> list[Artifact]:
        """Every artifact that a query means; one for any other reference. Raises as `resolve`."""
        return [_of_kind(each, reference, kind) for each in references.resolve_all(self, reference)]

    def check(self, artifact: Artifact) -> None:
        """Hash an artifact's payload before it is believed. Raises `Corrupt` naming the first file that differs."""
        for problem in payload_problems(artifact):
            hint = f"see `refusalctl artifacts verify`; {REMOVE}"
            raise Corrupt(f"{problem.where}: {problem.what}", hint=hint)

    def run_info(self, artifact: Artifact) -> dict[str, Any]:
        """What `run.json` says of how an artifact was computed. Raises `Corrupt` when it was changed."""
        try:
            record = parse_object(read_bytes(artifact.path / RUN))
            run: dict[str, Any] = record["run"]
            intact = digest(run) == record["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise Corrupt(f"{artifact.label}: {RUN} is missing or was changed")
        return run


def _of_kind(found: Artifact, reference: str, kind: str | None) -> Artifact:
    """Raises `BadInput` where it is of another kind."""
    if kind is not None and found.kind != kind:
        raise BadInput(f"{printable(reference)!r} is {found.kind} {short(found.id)}, expected {kind}")
    return found
