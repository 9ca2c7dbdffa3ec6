"""Deleting artifacts that a person names, with a plan that says what else would go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from refusalctl.errors import BadInput, Corrupt, NotFound
from refusalctl.store import references
from refusalctl.store.garbage import dependants, remove
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact, Store


class Line(NamedTuple):
    """One folder to delete; of a damaged artifact nothing is known but its kind and id."""

    kind: str
    id: str
    about: dict[str, Any]
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What deleting these means: `dependants` were made from them, `names` point to any of it."""

    asked: tuple[Line, ...]
    dependants: tuple[Line, ...]
    names: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(line.id for line in (*self.asked, *self.dependants))

    @property
    def bytes(self) -> int:
        return sum(line.bytes for line in (*self.asked, *self.dependants))

    def check(self, *, dependants: bool, names: bool) -> None:
        """Raise `BadInput` where it would delete more than was asked for."""
        if self.dependants and not dependants:
            listed = ", ".join(f"{line.kind}/{short(line.id)}" for line in self.dependants[:4])
            more = ", ..." if len(self.dependants) > 4 else ""
            raise BadInput(
                f"{len(self.dependants)} artifacts were made from it ({listed}{more})",
                hint="--dependants deletes them too",
            )
        if self.names and not names:
            raise BadInput(f"named {', '.join(self.names)}", hint="--names deletes it with its names")

    def carry_out(self, store: Store) -> None:
        """Delete; what was made from others before them, so that an interruption leaves no broken lineage."""
        for line in (*reversed(self.dependants), *self.asked):
            with suppress(NotFound):  # another process removes it too
                remove(store, line.kind, line.id)


def plan(store: Store, references: Sequence[str]) -> Plan:
    """What deleting these would delete. Raises `NotFound`, `Ambiguous` or `BadInput`."""
    asked = {line.id: line for line in (_line(store, each) for each in references)}
    needing = [_of(artifact) for artifact in dependants(store, asked)]
    gone = {f"{line.kind}/{line.id}" for line in (*asked.values(), *needing)}
    names = tuple(name for name, target in store.names().items() if target in gone)
    return Plan(tuple(asked.values()), tuple(needing), names)


def _line(store: Store, reference: str) -> Line:
    try:
        return _of(store.resolve(reference))
    except (Corrupt, NotFound):
        found = _damaged(store, reference)
        if found is None:
            raise
        return found


def _of(artifact: Artifact) -> Line:
    return Line(artifact.kind, artifact.id, artifact.about, artifact.size)


def _damaged(store: Store, reference: str) -> Line | None:
    """The one folder that a reference means though no manifest says so."""
    found = references.damaged(store, reference)
    if found is None:
        return None
    home = store.root / found[0] / found[1]
    return Line(*found, {}, sum(p.stat().st_size for p in home.rglob("*") if p.is_file()))
