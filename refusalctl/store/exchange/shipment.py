"""What is sent: chosen artifacts with everything that they were made from, inputs first, and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from refusalctl.errors import BadInput
from refusalctl.store.artifact import Artifact

TEXTS = ("prompts", "completions", "translations")  # kinds whose files hold what was asked and answered


def holds_texts(artifact: Artifact) -> bool:
    """Whether an artifact's files hold prompts or answers, which may be harmful: reports do, if they were asked to."""
    params = artifact.manifest["recipe"].get("params")
    told = isinstance(params, dict) and bool(params.get("with_text"))
    return artifact.kind in TEXTS or (artifact.kind == "report" and told)


@dataclass(frozen=True)
class Shipment:
    """`levels`: what is to be sent; no artifact of a level was made from another one of it. `there`: what of the
    lineage the receiver has whole. `check`: every byte there was or is to be read."""

    chosen: tuple[Artifact, ...]
    levels: tuple[tuple[Artifact, ...], ...]
    there: tuple[Artifact, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    check: bool = False

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        return tuple(artifact for level in self.levels for artifact in level)

    @property
    def bytes(self) -> int:
        """Of the payload files that are sent."""
        return sum(artifact.size for artifact in self.artifacts)

    @property
    def texts(self) -> dict[str, int]:
        """How many artifacts of which kind with prompts or answers are sent."""
        return dict(sorted(Counter(a.kind for a in self.artifacts if holds_texts(a)).items()))

    def allow(self, *, texts: bool, where: str) -> None:
        """Raise `BadInput` where prompts and answers would leave this machine without somebody having said so."""
        if self.texts and not texts:
            listed = ", ".join(f"{n} {kind}" for kind, n in self.texts.items())
            held = f"{sum(self.texts.values())} artifacts hold prompts or answers, which may be harmful"
            raise BadInput(
                f"{held}, and would be sent to {where}: {listed}",
                hint="--with-texts sends them; think of who can read there",
            )


def in_levels(artifacts: Iterable[Artifact]) -> tuple[tuple[Artifact, ...], ...]:
    """Artifacts in generations, inputs first; each sorted by kind and id."""
    by_id = {a.id: a for a in artifacts}
    order = TopologicalSorter({i: [x for x in a.inputs.values() if x in by_id] for i, a in by_id.items()})
    order.prepare()
    levels = []
    while order.is_active():
        ready = order.get_ready()
        levels.append(tuple(sorted((by_id[i] for i in ready), key=lambda a: (a.kind, a.id))))
        order.done(*ready)
    return tuple(levels)


def without(levels: Iterable[Sequence[Artifact]], ids: set[str]) -> tuple[tuple[Artifact, ...], ...]:
    left = (tuple(a for a in level if a.id not in ids) for level in levels)
    return tuple(level for level in left if level)
