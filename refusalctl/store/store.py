"""The artifact store: `<kind>/<id>/` with a manifest and payload files.

An artifact is there whole or not at all: payload files and then the manifest are written into `tmp/`, and
the folder is renamed into place. `recipes/<key>/<id>` says which artifact a recipe gave, `names/<name>`
holds the id that a name points to, `partial/<key>/` keeps what an interrupted step had finished.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from refusalctl.errors import Ambiguous, BadInput, Corrupt, NotFound, StoreError
from refusalctl.store.hashing import canonical, digest, file_digest, short

MANIFEST = "manifest.json"
RUN = "run.json"
KINDS = (
    "prompts",
    "activations",
    "directions",
    "openings",
    "scores",
    "cosmic",
    "selection",
    "subspace",
    "control_directions",
    "controls",
    "comprehension",
    "completions",
    "translations",
    "labels",
    "panel",
    "sample",
    "correction",
    "geometry",
    "transfer",
    "comparison",
    "calibration",
    "report",
)
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Artifact:
    """One result. `manifest` holds recipe, input ids and the digest of every payload file.

    `planned`: a dry run's stand-in for what is not computed yet; its id is the recipe key, and it has no files.
    """

    kind: str
    id: str
    folder: Path
    manifest: dict[str, Any] = field(repr=False)
    planned: bool = False

    @property
    def path(self) -> Path:
        """The folder of its files. Raises `BadInput` where a dry run only planned it."""
        if self.planned:
            raise BadInput(f"{self.label} is only planned: a dry run computes nothing", hint="ask without the dry run")
        return self.folder

    @property
    def about(self) -> dict[str, Any]:
        """What a person calls it by: model, language, prompt class, counts."""
        about: dict[str, Any] = self.manifest["about"]
        return about

    @property
    def inputs(self) -> dict[str, str]:
        inputs: dict[str, str] = self.manifest["recipe"]["inputs"]
        return inputs

    @property
    def size(self) -> int:
        """Bytes of all payload files."""
        return sum(f["bytes"] for f in self.manifest["files"].values())

    @property
    def label(self) -> str:
        return f"{self.kind}/{short(self.id)}"


class Problem(NamedTuple):
    """What `verify` found wrong with one artifact or name."""

    where: str
    what: str


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals (no space, no right to write) into one clear line."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("the disk is full", "free some space and run again; finished work is kept"),
            errno.EDQUOT: ("the disk quota is used up", "free some space and run again; finished work is kept"),
            errno.EACCES: ("permission denied", "choose a store you may write to with --store or REFUSALCTL_STORE"),
            errno.EPERM: ("permission denied", "choose a store you may write to with --store or REFUSALCTL_STORE"),
            errno.EROFS: ("the file system is read-only", "choose another store with --store or REFUSALCTL_STORE"),
            errno.ENOTDIR: ("a file stands where a folder is needed", "choose another store with --store"),
            errno.EEXIST: ("a file stands where a folder is needed", "choose another store with --store"),
        }
        elsewhere = error.filename and not str(error.filename).startswith(str(path))
        if error.errno not in reasons or elsewhere:
            raise
        what, hint = reasons[error.errno]
        raise StoreError(f"cannot write to the store {path}: {what}", hint=hint) from error


def check_name(name: str) -> None:
    """Raise `BadInput` for a name that could be taken for an id, a path or a query."""
    if not name or "/" in name or ":" in name or name.startswith(".") or set(name) <= _HEX:
        raise BadInput(
            f"{name!r} cannot be a name", hint="use letters, digits, '-' and '_', not only hexadecimal digits"
        )


class Store:
    """Artifacts below one folder. Creating the object touches nothing on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # --- writing ---------------------------------------------------------------------------------------

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder to write payload files into; removed on any exit, also on Ctrl-C."""
        with explained(self.root):
            folder = self.root / "tmp" / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
            folder.mkdir(parents=True)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def commit(
        self,
        draft: Path,
        kind: str,
        recipe: dict[str, Any],
        about: dict[str, Any],
        run: dict[str, Any],
    ) -> Artifact:
        """Move a draft into place. Two writers of one artifact both succeed; the first one's files stay."""
        files = {p.name: {"sha256": file_digest(p), "bytes": p.stat().st_size} for p in sorted(draft.iterdir())}
        manifest = {"format": "refusalctl.artifact", "version": 1, "kind": kind}
        manifest |= {"recipe": recipe, "about": about, "files": files}
        identifier = digest(manifest)
        (draft / RUN).write_bytes(canonical({"digest": digest(run), "run": run}))
        (draft / MANIFEST).write_bytes(canonical(manifest))
        for path in draft.iterdir():
            with path.open("rb") as content:
                os.fsync(content.fileno())
        home = self.root / kind / identifier
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(home)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        mark = self.root / "recipes" / digest(recipe) / identifier
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(kind, encoding="utf-8")
        return Artifact(kind, identifier, home, manifest)

    @contextmanager
    def partial(self, key: str) -> Iterator[Path]:
        """A folder that outlives an interruption, for one computation at a time; a second writer waits."""
        with explained(self.root):
            folder = self.root / "partial" / key
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                folder.mkdir(exist_ok=True)
                yield folder
                # what is finished has become an artifact; an exception leaves the folder for the next run
                shutil.rmtree(folder, ignore_errors=True)

    def name(self, name: str, artifact: Artifact) -> None:
        """Let `name` point to an artifact. Raises `BadInput` for a name that looks like an id or a path."""
        check_name(name)
        with explained(self.root):
            target = self.root / "names" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{name}.{os.getpid()}")
            draft.write_text(f"{artifact.kind}/{artifact.id}\n", encoding="utf-8")
            draft.replace(target)

    # --- reading ---------------------------------------------------------------------------------------

    def open(self, kind: str, identifier: str) -> Artifact:
        """Read one artifact's manifest. Raises `NotFound`, or `Corrupt` when it does not give this id."""
        path = self.root / kind / identifier
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
        except FileNotFoundError as error:
            raise NotFound(f"there is no {kind} {short(identifier)} in {self.root}") from error
        except (ValueError, UnicodeDecodeError) as error:
            raise Corrupt(f"{path / MANIFEST} is not JSON", hint="see `refusalctl artifacts verify`") from error
        version = manifest.get("version") if isinstance(manifest, dict) else None
        if version != 1:
            raise Corrupt(
                f"{kind} {short(identifier)} has format version {version}, this refusalctl reads version 1",
                hint="upgrade refusalctl",
            )
        if digest(manifest) != identifier:
            raise Corrupt(
                f"the manifest of {kind} {short(identifier)} was changed",
                hint="see `refusalctl artifacts verify`; remove the folder to compute it again",
            )
        return Artifact(kind, identifier, path, manifest)

    def find(self, recipe_key: str) -> Artifact | None:
        """The finished artifact of a recipe; the oldest, where a recipe gave more than one."""
        results = self.results(recipe_key)
        return results[0] if results else None

    def results(self, recipe_key: str) -> list[Artifact]:
        """Every artifact that a recipe gave, oldest first. More than one is a finding to report."""
        marks = self.root / "recipes" / recipe_key
        if not marks.is_dir():
            return []
        found = []
        for mark in sorted(marks.iterdir(), key=lambda m: (m.stat().st_mtime_ns, m.name)):
            kind = mark.read_text(encoding="utf-8")
            if (self.root / kind / mark.name / MANIFEST).is_file():
                found.append(self.open(kind, mark.name))
        return found

    def ids(self, kind: str | None = None) -> list[tuple[str, str]]:
        """(kind, id) of every finished artifact, in no particular order of time."""
        kinds = KINDS if kind is None else (kind,)
        found = []
        for each in kinds:
            home = self.root / each
            if home.is_dir():
                found += [(each, p.name) for p in sorted(home.iterdir()) if (p / MANIFEST).is_file()]
        return found

    def all(self, kind: str | None = None) -> list[Artifact]:
        """Every artifact, oldest first."""
        artifacts = [self.open(k, i) for k, i in self.ids(kind)]
        return sorted(artifacts, key=lambda a: ((a.path / MANIFEST).stat().st_mtime_ns, a.id))

    def names(self) -> dict[str, str]:
        """Name to `kind/id`."""
        home = self.root / "names"
        if not home.is_dir():
            return {}
        return {
            p.name: p.read_text(encoding="utf-8").strip() for p in sorted(home.iterdir()) if not p.name.startswith(".")
        }

    def resolve(self, reference: str, kind: str | None = None) -> Artifact:
        """The one artifact that a full id, unique prefix, name or query such as `directions:lang=ba` means.

        Raises `NotFound`, `Ambiguous` (naming the candidates), or `BadInput` when it is of another kind.
        """
        found = self._resolve(reference.strip())
        if kind is not None and found.kind != kind:
            raise BadInput(f"{reference!r} is {found.kind} {short(found.id)}, expected {kind}")
        return found

    def _resolve(self, reference: str) -> Artifact:
        target = self.names().get(reference)
        if target is not None:
            kind, _, identifier = target.partition("/")
            return self.open(kind, identifier)
        if ":" in reference:
            return self._only(reference, self._query(reference))
        kind, _, prefix = reference.rpartition("/")
        prefix = prefix.removeprefix("sha256:")
        if not prefix or not set(prefix) <= _HEX:
            raise NotFound(
                f"there is no artifact named {reference!r} in {self.root}", hint="see `refusalctl artifacts ls`"
            )
        candidates = [(k, i) for k, i in self.ids(kind or None) if i.startswith(prefix)]
        return self._only(reference, [self.open(k, i) for k, i in candidates])

    def _query(self, reference: str) -> list[Artifact]:
        kind, _, conditions = reference.partition(":")
        if kind not in KINDS:
            raise BadInput(f"{kind!r} is not a kind of artifact", hint=f"kinds: {', '.join(KINDS)}")
        wanted = dict(part.partition("=")[::2] for part in conditions.split(",") if part)
        return [a for a in self.all(kind) if all(str(a.about.get(k)) == v for k, v in wanted.items())]

    def _only(self, reference: str, candidates: list[Artifact]) -> Artifact:
        if not candidates:
            raise NotFound(f"no artifact answers to {reference!r} in {self.root}", hint="see `refusalctl artifacts ls`")
        if len(candidates) > 1:
            raise Ambiguous(reference, [a.label for a in candidates])
        return candidates[0]

    def check(self, artifact: Artifact) -> None:
        """Hash an artifact's payload before it is believed. Raises `Corrupt` naming the first file that differs."""
        for problem in self._payload_problems(artifact):
            raise Corrupt(
                f"{problem.where}: {problem.what}",
                hint="see `refusalctl artifacts verify`; remove the artifact to compute it again",
            )

    def run_info(self, artifact: Artifact) -> dict[str, Any]:
        """What `run.json` says of how an artifact was computed. Raises `Corrupt` when it was changed."""
        try:
            record = json.loads((artifact.path / RUN).read_bytes())
            run: dict[str, Any] = record["run"]
            intact = digest(run) == record["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise Corrupt(f"{artifact.label}: {RUN} is missing or was changed")
        return run

    # --- care ------------------------------------------------------------------------------------------

    def verify(self, kind: str | None = None) -> list[Problem]:
        """Hash everything again and report what differs from the manifests. Deletes nothing."""
        problems = []
        for each, identifier in self.ids(kind):
            try:
                artifact = self.open(each, identifier)
                self.run_info(artifact)
            except StoreError as error:
                problems.append(Problem(f"{each}/{short(identifier)}", error.message))
                continue
            problems += self._payload_problems(artifact)
        known = {f"{k}/{i}" for k, i in self.ids()}
        for name, target in self.names().items():
            if target not in known:
                problems.append(Problem(f"names/{name}", f"points to {target[:30]}, which is not there"))
        return problems

    def _payload_problems(self, artifact: Artifact) -> list[Problem]:
        files: dict[str, Any] = artifact.manifest["files"]
        problems = []
        for name, expected in files.items():
            path = artifact.path / name
            if not path.is_file():
                problems.append(Problem(f"{artifact.label}/{name}", "the file is missing"))
            elif path.stat().st_size != expected["bytes"]:
                found = path.stat().st_size
                problems.append(
                    Problem(f"{artifact.label}/{name}", f"it has {found} bytes, expected {expected['bytes']}")
                )
            elif file_digest(path) != expected["sha256"]:
                problems.append(Problem(f"{artifact.label}/{name}", "its bytes were changed"))
        extra = {p.name for p in artifact.path.iterdir()} - set(files) - {MANIFEST, RUN}
        problems += [Problem(f"{artifact.label}/{name}", "the manifest does not know this file") for name in extra]
        return problems
