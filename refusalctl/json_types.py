"""What JSON holds, as types: recipes, manifests, what an artifact is about, what a step measured while it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]  # one that is being made; what takes a finished one takes Mapping[str, Json]
