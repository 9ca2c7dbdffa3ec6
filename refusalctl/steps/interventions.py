"""An intervention as it is asked for, by the artifacts that hold its directions: checked, told in words, resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from refusalctl.errors import BadInput
from refusalctl.json_types import Json, JsonObject
from refusalctl.model import intervention_words as words
from refusalctl.model.intervention_checks import check_intervention
from refusalctl.steps.foresight import check_layers, chosen_positions
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

if TYPE_CHECKING:
    import torch

    from refusalctl.model.hooks import Intervention

SELECTION_FILE = formats.VECTOR_FILES["selection"]
SUBSPACE_FILE = formats.VECTOR_FILES["subspace"]
CONTROLS_FILE = formats.VECTOR_FILES["control_directions"]


class Source(NamedTuple):
    """Where a direction is read: a `directions` artifact needs a position and a layer, `control_directions` a family
    and which of its draws, the others have their own."""

    artifact: Artifact
    pos: int | None = None
    layer: int | None = None
    family: str | None = None
    draw: int | None = None

    def check(self, bench: Workbench) -> None:
        """Raise `BadInput` unless this names directions of the model at hand."""
        named = self.pos is not None and self.layer is not None
        if self.artifact.kind not in formats.VECTOR_FILES:
            raise BadInput(f"{self.artifact.label} holds no direction", hint="give a selection or directions id")
        if self.artifact.kind == "directions" and not named:
            raise BadInput(
                f"{self.artifact.label} holds one candidate per position and layer",
                hint="name one: --pos and --layer, or --direction REF@POS,LAYER",
            )
        if self.artifact.kind != "directions" and (self.pos is not None or self.layer is not None):
            raise BadInput(f"{self.artifact.label} has chosen its position and layer", hint="leave --pos, --layer out")
        is_control = self.artifact.kind == "control_directions"
        if (self.family is not None) != is_control or (self.draw is not None) != is_control:
            raise BadInput(f"{self.artifact.label}: control directions, and they alone, need a family and a draw")
        theirs = (self.artifact.about["model"], self.artifact.about["revision"])
        if theirs != (bench.ref.name, bench.ref.revision):
            raise BadInput(
                f"{self.artifact.label} was extracted from {' at '.join(theirs)}, "
                f"the model is {bench.ref.name} at {bench.ref.revision}",
                hint="use that model, or extract a direction from this one",
            )
        if self.artifact.kind == "directions":
            self._check_place(bench)

    def _check_place(self, bench: Workbench) -> None:
        """Raise `BadInput` for a position or layer that the model or these directions do not have."""
        if self.pos is not None and self.layer is not None and self.artifact.about.get("provenance") != "imported":
            chosen_positions(bench.small[1].positions, [self.pos])
            check_layers(bench, [self.layer])
        if not self.artifact.planned:
            _read(self)

    @property
    def is_span(self) -> bool:
        """Whether it holds several directions that belong together."""
        return self.artifact.kind == "subspace" or self.family == "subspaces"

    @property
    def rank(self) -> int:
        return int(self.artifact.about["rank"]) if self.is_span else 1


@dataclass(frozen=True)
class InterventionSpec:
    """An intervention as it is asked for. All of it enters the recipe of what it makes.

    `layers` and `positions` say where it acts; None means everywhere (addition: its direction's own layer).
    `strength` below 1 makes an ablation partial. `others` are further directions, whose span is ablated together with
    the first by `subspace`. `mean` are directions of another language, whose mean harmless activation `affine` keeps
    instead of that of the direction's own.
    """

    kind: str = "none"
    direction: Artifact | None = None
    pos: int | None = None
    layer: int | None = None
    coeff: float = 1.0
    layers: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    others: tuple[Source, ...] = ()
    family: str | None = None
    draw: int | None = None
    mean: Artifact | None = None
    strength: float = 1.0

    @property
    def sources(self) -> tuple[Source, ...]:
        if self.direction is None:
            return ()
        return (Source(self.direction, self.pos, self.layer, self.family, self.draw), *self.others)

    @property
    def rank(self) -> int:
        return sum(source.rank for source in self.sources)

    def check(self, bench: Workbench) -> None:
        """Raise `BadInput` for a combination that makes no sense."""
        has_direction = self.direction is not None
        check_intervention(
            self.kind,
            has_direction=has_direction,
            coeff=self.coeff,
            layers=self.layers,
            positions=self.positions,
            strength=self.strength,
        )
        for source in self.sources:
            source.check(bench)
        check_layers(bench, self.layers)
        if has_direction:
            self._check_rank()
        if self.mean is not None and (self.kind != "affine" or self.sources[0].artifact.kind != "selection"):
            raise BadInput("the mean of another language is for affine ablation of a selected direction")

    def _check_rank(self) -> None:
        if self.kind not in ("ablate", "subspace") and any(s.family is not None for s in self.sources):
            raise BadInput(f"control directions are ablated, found {self.kind!r}")
        several = len(self.sources) > 1 or self.sources[0].is_span
        if several and self.kind != "subspace":
            raise BadInput(f"{self.kind!r} takes one direction", hint="several: --intervention subspace")
        if self.kind == "subspace" and not several:
            raise BadInput(
                f"{self.sources[0].artifact.label} does not fit the intervention 'subspace': it is one direction",
                hint="repeat --direction, give a subspace artifact, or use --intervention ablate",
            )

    def params(self) -> JsonObject:
        """What the recipe says beside the ids of the directions' artifacts."""
        asked: JsonObject = {
            "kind": self.kind,
            "pos": self.pos,
            "layer": self.layer,
            "coeff": self.coeff,
            "layers": _tidy(self.layers),
            "positions": _tidy(self.positions),
            "others": [{"pos": source.pos, "layer": source.layer} for source in self.others],
            "rank": self.rank,
        }
        if self.strength != 1.0:
            asked["strength"] = self.strength
        return asked if self.family is None else asked | {"family": self.family, "draw": self.draw}

    def inputs(self) -> dict[str, Artifact]:
        """The directions' artifacts by their role in the recipe."""
        roles = ("direction", *(f"direction{i}" for i in range(2, len(self.sources) + 1)))
        found = {role: source.artifact for role, source in zip(roles, self.sources, strict=False)}
        return found if self.mean is None else found | {"mean": self.mean}

    def describe(self) -> str:
        """What is done, where, at which tokens and with whose directions, in one line."""
        return describe(self.params(), (s.artifact for s in self.sources), self.mean)


def _tidy(numbers: tuple[int, ...] | None) -> list[int] | None:
    return None if numbers is None else sorted(set(numbers))


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which direction of an artifact."""

    pos: int | None = None
    layer: int | None = None
    family: str | None = None
    draw: int | None = None


class _Recipe(_Place, frozen=True, kw_only=True):
    """`InterventionSpec.params`, read back; recipes of version 1 know neither layers nor positions nor rank."""

    kind: str
    coeff: float
    layers: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    others: tuple[_Place, ...] = ()
    rank: int = 1
    strength: float = 1.0


def from_recipe(params: Mapping[str, Json], inputs: Mapping[str, Artifact]) -> InterventionSpec:
    """The spec that `params` and `inputs` were made from."""
    asked = msgspec.convert(params, _Recipe)
    others = tuple(Source(inputs[f"direction{i}"], each.pos, each.layer) for i, each in enumerate(asked.others, 2))
    return InterventionSpec(
        asked.kind,
        inputs.get("direction"),
        asked.pos,
        asked.layer,
        asked.coeff,
        asked.layers,
        asked.positions,
        others,
        asked.family,
        asked.draw,
        inputs.get("mean"),
        asked.strength,
    )


def describe(params: Mapping[str, Json], artifacts: Iterable[Artifact] = (), mean: Artifact | None = None) -> str:
    """A recipe's intervention in words."""
    asked = msgspec.convert(params, _Recipe)
    told = words.describe(
        asked.kind,
        coeff=asked.coeff,
        rank=asked.rank,
        layers=asked.layers,
        positions=asked.positions,
        strength=asked.strength,
    )
    places = (asked, *asked.others)
    names = [_name(artifact, place) for artifact, place in zip(artifacts, places, strict=False)]
    told += f"; direction{'s' if len(names) > 1 else ''}: {', '.join(names)}" if names else ""
    return told if mean is None else f"{told}; mean of harmless prompts: {mean.label} ({mean.about['lang']})"


def in_words(store: Store, artifact: Artifact) -> str | None:
    """What was done to the model when an artifact was made, or None where its recipe knows no intervention."""
    params = artifact.manifest["recipe"]["params"].get("intervention")
    if not isinstance(params, dict):
        return None
    kinds = {identifier: kind for kind, identifier in store.ids()}
    ids = [artifact.inputs[role] for role in sorted(artifact.inputs) if role.startswith("direction")]
    mean = artifact.inputs.get("mean")
    known = store.open(kinds[mean], mean) if mean in kinds else None
    return describe(params, [store.open(kinds[i], i) for i in ids] if all(i in kinds for i in ids) else (), known)


def _name(artifact: Artifact, place: _Place) -> str:
    where = "" if place.pos is None else f" at position {place.pos}, layer {place.layer}"
    if place.family is not None:
        where = f", {place.family} draw {place.draw}"
    return f"{artifact.label} ({artifact.about['lang']}{where})"


class _StoredDirection(NamedTuple):
    """Rows [rank, d_model], the layer they were read at, and the mean harmless activation there, where it is kept."""

    rows: torch.Tensor
    layer: int
    mean: torch.Tensor | None


def resolve_direction(spec: InterventionSpec) -> Intervention:
    """Read the vectors. Raises `BadInput` for a position or layer that the artifact does not hold."""
    import torch

    from refusalctl.model.hooks import Intervention

    stored = [_read(source) for source in spec.sources]
    if not stored:
        return Intervention()
    first = stored[0]
    if spec.kind == "affine" and first.mean is None:
        raise BadInput(
            f"{spec.sources[0].artifact.label} was written without the mean harmless activation",
            hint="select again, or give its directions artifact with --pos and --layer",
        )
    rows = torch.cat([each.rows for each in stored]) if spec.kind == "subspace" else first.rows[0]
    mean = first.mean if spec.kind == "affine" else None
    if spec.mean is not None:
        mean = _mean_elsewhere(spec.sources[0].artifact, spec.mean)
    return Intervention(
        spec.kind,  # type: ignore[arg-type]
        rows,
        first.layer,
        spec.coeff,
        spec.layers,
        spec.positions,
        mean,
        spec.strength,
    )


def _read(source: Source) -> _StoredDirection:
    artifact = source.artifact
    tensors, header = formats.read_vectors(artifact.path / formats.VECTOR_FILES[artifact.kind], artifact.kind)
    if artifact.kind == "subspace":
        return _StoredDirection(tensors["basis"], header["layer"], None)
    if artifact.kind == "control_directions":
        vector = _control(source, tensors)
        return _StoredDirection(vector if vector.ndim == 2 else vector[None], 0, None)
    if artifact.kind == "selection":
        return _StoredDirection(tensors["direction"][None], header["layer"], tensors.get("mean_harmless"))
    n_layers = tensors["candidates"].shape[1]
    if source.pos not in header["positions"] or source.layer is None or not 0 <= source.layer < n_layers:
        raise BadInput(
            f"{artifact.label} holds no candidate at position {source.pos}, layer {source.layer}",
            hint=f"positions {header['positions']}, layers 0 to {n_layers - 1}",
        )
    at = (header["positions"].index(source.pos), source.layer)
    mean = tensors.get("mean_harmless")  # imported directions come without
    return _StoredDirection(tensors["candidates"][at][None], source.layer, None if mean is None else mean[at])


def _mean_elsewhere(selection: Artifact, means: Artifact) -> torch.Tensor:
    """Mean harmless activation of other directions at a selection's own place."""
    _tensors, header = formats.read_vectors(selection.path / SELECTION_FILE, "selection")
    tensors, known = formats.read_vectors(means.path / formats.VECTOR_FILES["directions"], "directions")
    if header["pos"] not in known["positions"] or "mean_harmless" not in tensors:
        raise BadInput(f"{means.label} holds no mean harmless activation at position {header['pos']}")
    found: torch.Tensor = tensors["mean_harmless"][known["positions"].index(header["pos"]), header["layer"]]
    return found


def _control(source: Source, families: Mapping[str, torch.Tensor]) -> torch.Tensor:
    vectors = families.get(str(source.family))
    if vectors is None or source.draw is None or not 0 <= source.draw < len(vectors):
        held = ", ".join(f"{name} ({len(v)})" for name, v in sorted(families.items()))
        raise BadInput(
            f"{source.artifact.label} holds no draw {source.draw} of {source.family!r}", hint=f"it holds {held}"
        )
    vector: torch.Tensor = vectors[source.draw]
    return vector


def end_of_instruction(artifact: Artifact) -> tuple[int, ...]:
    """All end-of-instruction positions of the template that an artifact's directions were read with."""
    _tensors, header = formats.read_vectors(artifact.path / formats.VECTOR_FILES[artifact.kind], artifact.kind)
    if "suffix_tokens" not in header:
        raise BadInput(f"{artifact.label} does not say which positions the template has", hint="give numbers, -1,-5")
    return tuple(range(-len(header["suffix_tokens"]), 0))
