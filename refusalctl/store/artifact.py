"""One artifact in its folder: what it says of itself, and whether its files are there and are what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.errors import BadInput, Corrupt
from refusalctl.file_errors import explain
from refusalctl.store.damage import Damage
from refusalctl.store.hashing import file_digest, short
from refusalctl.store.manifest import MANIFEST, RUN
from refusalctl.untrusted import ordinary, parse_object, read_bytes

__all__ = [
    "KINDS",
    "LAST",
    "MANIFEST",
    "RUN",
    "Artifact",
    "Problem",
    "explained_read",
    "missing",
    "payload_problems",
    "written",
]

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
    "losses",
    "drift",
    "benchmark",
    "cost",
    "calibration",
    "report",
)


LAST = 2.0**38  # seconds since the epoch: a year of four digits


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
    """What `verify` found wrong with one artifact or name. `artifact`: its kind and id, where it is one's."""

    where: str
    what: str
    damage: Damage
    artifact: tuple[str, str] | None = None


def missing(folder: Path, manifest: dict[str, Any]) -> str | None:
    """Which file of an artifact is not there in its size, as an interrupted copy leaves it; None where all are.

    Contents are not read: see `Store.check`.
    """
    try:
        ordinary(folder / MANIFEST)
    except (OSError, ValueError):
        return f"{MANIFEST} is missing"
    for name, facts in manifest["files"].items():
        try:
            size = ordinary(folder / name)
        except OSError:
            return f"{name} is missing"
        except ValueError as error:
            return f"{name}: {error}"
        if size != facts["bytes"]:
            return f"{name} has {size} bytes, expected {facts['bytes']}"
    return None


def written(folder: Path) -> float:
    """When the artifact in a folder was written, as it says itself; by its file where an older version wrote it."""
    try:
        found = float(parse_object(read_bytes(folder / RUN))["run"]["written"])
        if 0 <= found <= LAST:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        return (folder / MANIFEST).stat().st_mtime
    except OSError:
        return 0.0


def payload_problems(artifact: Artifact) -> Iterator[Problem]:
    """Files of an artifact that are not as its manifest says, by their bytes."""
    for name, expected in artifact.manifest["files"].items():
        path = artifact.path / name
        where = f"{artifact.label}/{name}"
        try:
            size = ordinary(path)
            if size != expected["bytes"]:
                what = f"it has {size} bytes, expected {expected['bytes']}"
                yield Problem(where, what, Damage.WRONG_SIZE)
            elif file_digest(path) != expected["sha256"]:
                yield Problem(where, "its bytes were changed", Damage.CHANGED_BYTES)
        except (FileNotFoundError, IsADirectoryError):
            yield Problem(where, "the file is missing", Damage.MISSING_FILE)
        except ValueError as error:
            yield Problem(where, str(error), Damage.FOREIGN_FILE)
        except OSError as error:
            yield Problem(where, explained_read(error, path).message, Damage.UNREADABLE)


def explained_read(error: OSError, path: Path) -> Corrupt:
    """What the operating system says about a file of the store that cannot be read."""
    told = explain(error, doing="read", path=path, kind=Corrupt)
    return told if isinstance(told, Corrupt) else Corrupt(f"cannot read {path}: {error}")
