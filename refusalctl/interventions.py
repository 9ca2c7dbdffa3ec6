"""`rc.ablate`, `rc.add` and `rc.intervene`: what is done to a model, named by the directions that one holds.

The same object serves a study (`study.completions("de", rc.ablate(be))`) and any model of transformers
(`with rc.intervene(model, rc.ablate(be)): ...`). Interventions live in memory; no weights are changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from refusalctl.disk import given_path
from refusalctl.errors import BadInput
from refusalctl.interop.direction import ModelFacts, check_model
from refusalctl.results import Directions, Result, Selection, Subspace, Vectors
from refusalctl.steps.interop.directions import read_vectors
from refusalctl.steps.interventions import InterventionSpec, Source, resolve_direction

if TYPE_CHECKING:
    import torch

    from refusalctl.model.hooks import Checks
    from refusalctl.model.interventions import Intervention as ModelIntervention
    from refusalctl.model.transformers_types import LanguageModel


@dataclass(frozen=True)
class Candidate:
    """One candidate of a `Directions` result, at a position and layer."""

    directions: Directions
    pos: int
    layer: int


Direction: TypeAlias = "Vectors | Candidate | Source | torch.Tensor"


@dataclass(frozen=True, eq=False)
class Intervention:
    """What is done, with whose directions, and where. Made by `ablate` and `add`."""

    kind: str
    directions: tuple[Direction, ...] = ()
    coeff: float = 1.0
    layers: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    layer: int | None = None  # of a bare vector that is added
    pos: int | None = None

    def spec(self) -> InterventionSpec:
        """The same, named by artifacts, as recipes hold it. Raises `BadInput` for vectors that no artifact holds."""
        sources = [_source(each) for each in self.directions]
        first = sources[0] if sources else None
        return InterventionSpec(
            self.kind,
            first.artifact if first else None,
            first.pos if first else self.pos,
            first.layer if first else self.layer,
            self.coeff,
            self.layers,
            self.positions,
            tuple(sources[1:]),
        )

    def for_model(self) -> ModelIntervention:
        """The same with its vectors, as hooks take it."""
        import torch

        from refusalctl.model.interventions import Intervention as ModelIntervention

        if all(isinstance(each, Vectors | Candidate | Source) for each in self.directions):
            return resolve_direction(self.spec())
        tensors = [each for each in self.directions if isinstance(each, torch.Tensor)]
        if len(tensors) < len(self.directions):
            raise BadInput("directions are all results of a store, or all tensors")
        rows = torch.stack([each.float() for each in tensors])
        direction = rows if self.kind == "subspace" else rows[0]
        return ModelIntervention(self.kind, direction, self.layer, self.coeff, self.layers, self.positions)  # type: ignore[arg-type]

    def describe(self) -> str:
        """What is done, where, at which tokens and with whose directions, in one line."""
        return self.spec().describe()

    def __repr__(self) -> str:
        named = ", ".join(type(each).__name__ for each in self.directions)
        return f"<Intervention {self.kind}{f' x {self.coeff:g}' if self.kind == 'add' else ''}: {named or 'nothing'}>"


def _source(direction: object) -> Source:
    if isinstance(direction, Source):
        return direction
    if isinstance(direction, Candidate):
        return Source(direction.directions.artifact, direction.pos, direction.layer)
    if isinstance(direction, Selection | Subspace):
        return Source(direction.artifact)
    if isinstance(direction, Directions):
        raise BadInput(
            "directions hold one candidate per position and layer", hint="name one: rc.Candidate(d, pos, layer)"
        )
    if isinstance(direction, Result):
        raise BadInput(f"{direction.artifact.label} holds no direction", hint="give a selection")
    raise BadInput(
        "a study's answers name their directions by artifact, and a bare vector has none",
        hint="use rc.intervene with it, or give a selection of a study",
    )


def ablate(
    *directions: Direction,
    affine: bool = False,
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
) -> Intervention:
    """Directional ablation, x - r_hat (r_hat . x), wherever the stream is written (Arditi et al. 2024, equation 4).

    `directions`: selections, candidates or vectors [d_model]; of several, their span is ablated. `affine`: the stream's
    projection becomes that of the mean harmless activation instead of 0 (Marshall et al. 2024). `layers` and
    `positions` (negative, from the prompt's end) restrict where it acts; by default everywhere.
    """
    if not directions:
        raise BadInput("an ablation needs a direction", hint="such as study.selection('be')")
    several = len(directions) > 1 or isinstance(directions[0], Subspace)
    if several and affine:
        raise BadInput("an affine ablation takes one direction")
    kind = "subspace" if several else "affine" if affine else "ablate"
    return Intervention(kind, directions, layers=_numbers(layers), positions=_numbers(positions))


def add(
    direction: Direction,
    coeff: float = 1.0,
    *,
    layer: int | None = None,
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
) -> Intervention:
    """Activation addition, x + coeff * r at the direction's own layer (Arditi et al. 2024, equation 3).

    r is not normalised; a negative `coeff` pushes away from refusal. `layer`: where a bare vector acts; a result is
    added at its own layer, and `layers` restricts where. Raises `BadInput` for `layer` beside a result.
    """
    if layer is not None and isinstance(direction, Result | Candidate | Source):
        raise BadInput("a result is added at its own layer", hint="`layers` adds it at others; `layer` is for tensors")
    return Intervention("add", (direction,), coeff, _numbers(layers), _numbers(positions), layer)


def load_direction(path: Path | str, model: torch.nn.Module, *, unproven: bool = False) -> Intervention:
    """The intervention that an exported direction means (`artifacts export --format safetensors`, `gguf`, ...), for
    `rc.intervene` with `model`.

    Raises `BadInput` where the file was read from another model: width, layers, commit, and the fingerprint of the
    weights where the file has one. Where neither commit nor fingerprint can be compared, `unproven=True` says that you
    know it. A file without a header says too little: `refusalctl import` asks for the rest.
    """
    from refusalctl.model.fingerprint import weights_fingerprint
    from refusalctl.model.residual import find_residual

    place = given_path(path, "the direction")
    found = read_vectors(place)
    if found.header is None:
        raise BadInput(f"{place.name} has no header: nothing says where its direction belongs", hint="import it")
    header, residual = found.header, find_residual(cast("LanguageModel", model))
    commit = getattr(model.config, "_commit_hash", None)
    weights = weights_fingerprint(model) if header.weights is not None else None
    facts = ModelFacts(residual.n_layers, residual.d_model, commit, weights)
    check_model(header, facts, place.name, unproven=unproven)
    vector = next(iter(found.vectors.values()))
    if header.operation == "ablate":
        return ablate(vector)
    return add(vector, header.coefficient, layer=header.layer, layers=header.act_at)


def _numbers(given: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if given is None else tuple(given)


@contextmanager
def intervene(
    model: torch.nn.Module, intervention: Intervention, *, prompt_length: int | None = None
) -> Iterator[Checks]:
    """Hold an intervention on any decoder of transformers during the `with` block.

    `prompt_length` (tokens, padding included) is needed where `positions` are chosen and the forward holds more than
    the prompt. Raises `ModelError` for an architecture whose stream cannot be found, and on leaving if no hook fired or
    the stream was not where the intervention puts it.
    """
    from refusalctl.model.hooks import intervene as hold
    from refusalctl.model.residual import find_residual

    with hold(find_residual(cast("LanguageModel", model)), intervention.for_model(), prompt_length) as checks:
        yield checks
