"""A direction that says of itself how it is meant: the header of `safetensors` and GGUF files, and the check that a
loaded model is the one it belongs to.

The header is one JSON object; in safetensors it is the metadata entry `refusalctl`, in GGUF the string of that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import msgspec

from refusalctl.errors import BadInput, DataError
from refusalctl.json_types import JsonObject
from refusalctl.untrusted import parse_object

if TYPE_CHECKING:
    import torch

Operation = Literal["ablate", "add"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
Points = Literal["harmless-to-harmful", "untold"]
FORMAT, VERSION = "refusalctl.portable-direction", 1
ENTRY = "refusalctl"  # of a file's metadata


class DirectionHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a reader needs in order to use a direction as it was measured.

    `layer` counts from 0 and means the stream that enters that block; there the direction was read, at `position`
    (negative, from the prompt's end). `act_at`: the layers at whose entry `add` acts, empty for `ablate`, which acts on
    every write. `layer_map`: tensor name to layer. `length` is the vector's Euclidean norm, `norm` whether it is as it
    was read or of length 1. `weights`: the fingerprint of `model.fingerprint`; None with `weights_untold`, the reason.
    """

    format: str = FORMAT
    version: int = VERSION
    operation: Operation
    coefficient: float
    hook_point: Literal["resid_pre"] = "resid_pre"
    layer: int
    position: int
    act_at: tuple[int, ...]
    layer_map: dict[str, int]
    n_layers: int | None
    d_model: int
    model: str
    revision: str
    weights: str | None
    weights_untold: str | None
    model_dtype: str | None
    dtype: Literal["float32"] = "float32"
    norm: Literal["as-read", "unit"]
    length: float
    points: Points
    lang: str
    artifact: str
    written_by: str

    def to_json(self) -> JsonObject:
        found: JsonObject = msgspec.to_builtins(self)
        return found


def read_header(text: str, where: str) -> DirectionHeader:
    """Raises `DataError` naming the version that is not known, or the field that does not fit."""
    try:
        told = parse_object(text)
    except ValueError as error:
        raise DataError(f"{where}: its header is no JSON object") from error
    if told.get("format") != FORMAT:
        raise DataError(f"{where} should hold a {FORMAT}, found {str(told.get('format'))[:60]!r}")
    if told.get("version") != VERSION:
        raise DataError(
            f"{where} has header version {str(told.get('version'))[:20]}, this refusalctl reads version {VERSION}",
            hint="use the refusalctl that wrote it, or a newer one",
        )
    try:
        return msgspec.convert(told, DirectionHeader)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: its header does not fit: {str(error)[:160]}") from error


@dataclass(frozen=True, eq=False)
class PortableDirection:
    """One vector [d_model], float32, with its header."""

    header: DirectionHeader
    vector: torch.Tensor


@dataclass(frozen=True, eq=False)
class FoundVectors:
    """What a file held: vectors [d_model] by our layer, which tool names layers so, and the header where it has one.

    `model_hint`: what a GGUF file says of its model, an architecture's name.
    """

    format: str
    vectors: dict[int, torch.Tensor]
    header: DirectionHeader | None
    model_hint: str | None = None


class ModelFacts(NamedTuple):
    """What is known of a model in memory. None: it does not say."""

    n_layers: int
    d_model: int
    revision: str | None
    weights: str | None


def check_model(header: DirectionHeader, found: ModelFacts, where: str, *, unproven: bool = False) -> None:
    """Raise `BadInput` unless a direction was read from this very model.

    Layers, width, commit and the weights' fingerprint must be equal where both sides say them; where neither commit
    nor fingerprint can be compared, nothing proves that they belong together, and `unproven` must say that this is
    known.
    """
    for what, expected, here in (
        ("width", header.d_model, found.d_model),
        ("layers", header.n_layers, found.n_layers),
        ("weights", header.weights, found.weights),
        ("revision", None if header.weights and found.weights else header.revision, found.revision),
    ):
        if expected is not None and here is not None and expected != here:
            raise BadInput(
                f"{where} was read from {header.model}: expected {what} {expected}, found {here}",
                hint="load that model at that revision, or extract a direction from this one",
            )
    proven = (header.weights and found.weights) or found.revision is not None
    if not proven and not unproven:
        raise BadInput(
            f"nothing proves that {where} belongs to this model: expected a fingerprint of its weights or a commit, "
            "found neither on both sides",
            hint="export it again with --model, or pass unproven=True if you know it",
        )
