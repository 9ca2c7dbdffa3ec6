"""Directions of the store to and from files of other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from refusalctl.errors import BadInput
from refusalctl.interop import control_vector, vector_files
from refusalctl.interop.direction import DirectionHeader, FoundVectors, Operation, Points, PortableDirection
from refusalctl.interop.layer_names import GGUF, WRITTEN
from refusalctl.records.selection import Candidate
from refusalctl.steps.directions import n_layers
from refusalctl.steps.interventions import InterventionSpec, Source, resolve_direction
from refusalctl.steps.published.directions import PublishedDirection, PublishedDirections, import_directions
from refusalctl.steps.published.request import Request
from refusalctl.steps.selection.scores import read_choice
from refusalctl.steps.step import Workbench
from refusalctl.store import formats
from refusalctl.store.hashing import file_digest
from refusalctl.store.store import Artifact
from refusalctl.version import __version__

if TYPE_CHECKING:
    from refusalctl.model.chat_model import ChatModel

SUFFIXES = (".safetensors", ".gguf")
NOT_LOADED = "the model was not loaded for the export; its revision names it"


@dataclass(frozen=True)
class AskedDirection:
    """How a direction is to be used where it goes. `layers` None: `add` acts where the direction was read."""

    operation: Operation | None = None
    coefficient: float = 1.0
    layers: tuple[int, ...] | None = None
    unit: bool = False
    pos: int | None = None
    layer: int | None = None
    model_hint: str | None = None


class _Known(NamedTuple):
    """What the model says of itself, where it is at hand."""

    weights: str | None
    n_layers: int | None
    architecture: str | None


def export_direction(
    artifact: Artifact, path: Path, form: str, asked: AskedDirection, bench: Workbench | None = None
) -> PortableDirection:
    """Write one direction for another tool. `bench`: the model that it belongs to, which is loaded for the fingerprint
    of its weights.

    Raises `BadInput` where the artifact holds no single direction, the format cannot say what is asked, or the model is
    another one.
    """
    portable = portable_direction(artifact, form, asked, bench)
    if form == GGUF.format:
        known = _known(bench)
        control_vector.write(path, portable, asked.model_hint or known.architecture)
    else:
        vector_files.write(path, portable, WRITTEN[form])
    return portable


def portable_direction(
    artifact: Artifact, form: str, asked: AskedDirection, bench: Workbench | None = None
) -> PortableDirection:
    """The vector with its header; the tensors' names are told when it is written."""
    if artifact.kind not in ("selection", "directions"):
        raise BadInput(f"{artifact.label} is no single direction", hint="give a selection, or directions with a place")
    source = Source(artifact, asked.pos, asked.layer)
    if artifact.kind == "directions" and None in (asked.pos, asked.layer):
        raise BadInput(f"{artifact.label} holds one candidate per position and layer", hint="name one: --pos, --layer")
    if bench is not None:
        source.check(bench)
    elif artifact.kind == "selection" and (asked.pos, asked.layer) != (None, None):
        raise BadInput(f"{artifact.label} has chosen its position and layer", hint="leave --pos, --layer out")
    operation = asked.operation or ("add" if form == GGUF.format else "ablate")
    read = resolve_direction(InterventionSpec("ablate", artifact, asked.pos, asked.layer))
    assert read.direction is not None
    assert read.layer is not None
    vector = read.direction.float()
    if asked.unit:
        vector = vector / vector.norm()
    known = _known(bench)
    layers = known.n_layers if known.n_layers is not None else _n_layers(artifact)
    header = DirectionHeader(
        operation=operation,
        coefficient=_coefficient(operation, asked),
        layer=read.layer,
        position=_position(artifact, asked.pos),
        act_at=_act_at(operation, asked.layers, read.layer, layers),
        layer_map={},
        n_layers=layers,
        d_model=int(vector.shape[0]),
        model=str(artifact.about["model"]),
        revision=str(artifact.about["revision"]),
        weights=known.weights,
        weights_untold=None if known.weights else NOT_LOADED,
        model_dtype=_dtype(artifact),
        norm="unit" if asked.unit else "as-read",
        length=float(vector.norm()),
        points=_points(artifact),
        lang=str(artifact.about["lang"]),
        artifact=artifact.id,
        written_by=f"refusalctl {__version__}",
    )
    return PortableDirection(header, vector)


def _coefficient(operation: str, asked: AskedDirection) -> float:
    if operation == "ablate" and asked.coefficient != 1.0:
        raise BadInput("an ablation has no coefficient", hint="--operation add, or leave --coeff out")
    return asked.coefficient


def _act_at(operation: str, layers: Sequence[int] | None, layer: int, n: int | None) -> tuple[int, ...]:
    if operation == "ablate":
        if layers is not None:
            raise BadInput("an exported ablation acts on every write of every layer", hint="leave --layers out")
        return ()
    found = tuple(sorted(set(layers))) if layers is not None else (layer,)
    if not found or found[0] < 0 or (n is not None and found[-1] >= n):
        last = "its last" if n is None else n - 1
        raise BadInput(f"layers {list(found)} are not there: the model has layers 0 to {last}")
    return found


def _position(artifact: Artifact, pos: int | None) -> int:
    if artifact.kind == "directions":
        assert pos is not None
        return pos
    file = formats.VECTOR_FILES[artifact.kind]
    _tensors, header = formats.read_vectors(artifact.path / file, artifact.kind)
    return int(header["pos"])


def _n_layers(artifact: Artifact) -> int | None:
    """Layers of the model, where the artifact was made from it; imported tables tell those they name."""
    if artifact.kind == "directions":
        return n_layers(artifact)
    return None if _imported(artifact) else read_choice(artifact).n_layers


def _points(artifact: Artifact) -> Points:
    return "untold" if artifact.about.get("points") == "untold" else "harmless-to-harmful"


def _imported(artifact: Artifact) -> bool:
    return artifact.about.get("provenance") == "imported"


def _dtype(artifact: Artifact) -> str | None:
    told: Mapping[str, object] = artifact.manifest["recipe"].get("model") or {}
    found = told.get("dtype")
    return str(found) if found else None


def _known(bench: Workbench | None) -> _Known:
    if bench is None:
        return _Known(None, None, None)
    model: ChatModel = bench.model
    from refusalctl.model.fingerprint import weights_fingerprint

    kind = getattr(model.model.config.get_text_config(), "model_type", None)
    return _Known(weights_fingerprint(model.model), model.residual.n_layers, kind)


# --- in ----------------------------------------------------------------------------------------------


def read_vectors(path: Path) -> FoundVectors:
    """Directions as another tool wrote them, by our layer. Raises `DataError` for any other file."""
    return control_vector.read(path) if path.suffix == ".gguf" else vector_files.read(path)


@dataclass(frozen=True)
class GivenVector:
    """One file, read and checked, with all that must be known of it."""

    path: Path
    direction: PublishedDirection
    request: Request
    points: Points
    n_layers: int | None
    meant: str  # what the file says of how it is used, and a selection does not hold


def given_vectors(paths: Sequence[Path], request: Request) -> list[GivenVector]:
    """Files of other tools. What a file does not say must be told; what both say must agree.

    Raises `DataError` for a file that is none of the known, `BadInput` for what is untold or contradicted.
    """
    return [_given(path, read_vectors(path), request) for path in paths]


def import_vectors(bench: Workbench, given: Sequence[GivenVector]) -> list[Artifact]:
    """One selection per file, marked as imported."""
    results: list[Artifact] = []
    for each in given:
        one = PublishedDirections(each.path, chosen=[each.direction], points=each.points, n_layers=each.n_layers)
        results += import_directions(bench, one, each.request)
        if each.meant:
            bench.note(f"{each.path.name} is kept as a direction alone: {each.meant} is not")
        if each.points == "untold":
            bench.note(
                f"{each.path.name} does not say whether its direction points to refusal or away from it: an ablation "
                "is the same either way, an addition is not"
            )
    return results


def _given(path: Path, found: FoundVectors, request: Request) -> GivenVector:
    header = found.header
    asked = request.with_known(
        lang=header.lang if header else None,
        model=header.model if header else None,
        revision=header.revision if header else None,
        where=path.name,
    )
    asked.needed_lang(path)
    pos = asked.position(header.position if header else None, path.name)
    if pos >= 0:
        raise BadInput(f"positions count back from the prompt's end, found {pos}", hint="such as --pos -1")
    if header is None:
        layer, vector = vector_files.one_layer(found, request.layer, path.name)
    elif request.layer not in (None, header.layer):
        raise BadInput(
            f"{path.name} says layer {header.layer}, --layer says {request.layer}", hint="leave the flag out"
        )
    else:
        layer, vector = header.layer, next(iter(found.vectors.values()))  # all tensors are copies of one
    direction = PublishedDirection(vector, Candidate(pos, layer), {path.name: file_digest(path)})
    points, n = (header.points, header.n_layers) if header else ("untold", None)
    return GivenVector(path, direction, replace(asked, rule=None), points, n, _meant(header))  # nothing to choose among


def _meant(header: DirectionHeader | None) -> str:
    """What a header says of the use of its vector beyond the vector, in words; empty where there is nothing more."""
    if header is None:
        return ""
    said = [f"its coefficient {header.coefficient:g}"] if header.coefficient != 1.0 else []
    said += [f"that it acts at layers {list(header.act_at)}"] if header.act_at not in ((), (header.layer,)) else []
    said += ["that it was scaled to length 1"] if header.norm == "unit" else []
    return ", ".join(said)
