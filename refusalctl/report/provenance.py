"""All that a report rests on: the artifacts behind one transfer, and what they came from."""

from __future__ import annotations

from collections.abc import Iterable

from refusalctl.errors import Corrupt, NotFound
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact, Store


class Provenance:
    """Every artifact that a transfer was computed from, by id."""

    def __init__(self, store: Store, top: Artifact) -> None:
        kinds = {identifier: kind for kind, identifier in store.ids()}
        self.by_id = {top.id: top}
        self._origins: dict[str, list[Artifact]] = {}
        waiting = list(top.inputs.values())
        while waiting:
            identifier = waiting.pop()
            if identifier in self.by_id:
                continue
            if identifier not in kinds:
                raise NotFound(
                    f"{top.label} needs the artifact {short(identifier)}, which is not in {store.root}",
                    hint="run `refusalctl transfer` again with the same settings to compute what is missing",
                )
            artifact = store.open(kinds[identifier], identifier)
            self.by_id[identifier] = artifact
            waiting += artifact.inputs.values()

    def origins(self, artifact: Artifact) -> list[Artifact]:
        """The prompts artifacts that this one was computed from."""
        if artifact.kind == "prompts":
            return [artifact]
        if artifact.id not in self._origins:
            found = [o for i in artifact.inputs.values() for o in self.origins(self.by_id[i])]
            self._origins[artifact.id] = list({o.id: o for o in found}.values())
        return self._origins[artifact.id]

    def source_language(self, direction: Artifact) -> str:
        """Language of the prompts that a direction was extracted from. Raises `Corrupt` unless it is one."""
        languages = {o.about["lang"] for each in self._extracted(direction) for o in self.origins(each)}
        if len(languages) != 1:
            raise Corrupt(f"{direction.label} was extracted from prompts in {sorted(languages)}, expected one language")
        return str(languages.pop())

    def _extracted(self, direction: Artifact) -> list[Artifact]:
        """What holds the vectors of a selection, of control directions, or of a subspace built on a selection."""
        if direction.kind != "subspace":
            return [self.by_id[direction.inputs["directions"]]]
        own = [self.by_id[direction.inputs[kind]] for kind in ("harmful", "harmless")]
        return own + self._extracted(self.by_id[direction.inputs["selection"]])

    def sorted(self) -> list[Artifact]:
        return in_order(self.by_id.values())

    def activations(self) -> dict[str, dict[str, Artifact]]:
        """Train activations behind directions and comprehension gates: language to prompt class to artifact."""
        found: dict[str, dict[str, Artifact]] = {}
        for each in self.sorted():
            if each.kind in ("directions", "comprehension"):
                names = {k: each.inputs.get(k) or each.inputs.get(f"activations_{k}") for k in ("harmful", "harmless")}
                by_class = {k: self.by_id[i] for k, i in names.items() if i is not None}
                if len(by_class) == 2:
                    found.setdefault(str(each.about["lang"]), by_class)
        return found


ORDER = (
    "comparison",
    "transfer",
    "cost",
    "geometry",
    "selection",
    "scores",
    "directions",
    "controls",
    "control_directions",
    "comprehension",
    "openings",
    "activations",
    "labels",
    "completions",
    "prompts",
)


def in_order(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """From what a report is about down to what it was computed from, the same order each time."""
    rank = {kind: i for i, kind in enumerate(ORDER)}
    return sorted(artifacts, key=lambda a: (rank.get(a.kind, len(rank)), sorted(map(str, a.about.items())), a.id))
