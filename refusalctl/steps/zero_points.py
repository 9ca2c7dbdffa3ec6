"""Where ablation of each chosen direction puts the stream of each target, read from artifacts that are there anyway."""

from __future__ import annotations

from collections.abc import Mapping

from refusalctl.records.cell import LanguagePair
from refusalctl.records.transfer import ZeroPoint
from refusalctl.steps.directions import DIRECTIONS_FILE
from refusalctl.steps.input_names import inputs_of
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.store import formats
from refusalctl.store.store import Artifact


def zero_points(inputs: Mapping[str, Artifact]) -> dict[LanguagePair, ZeroPoint]:
    """By direction and target, at the place where the direction was taken; no entry where no means were given."""
    return {
        LanguagePair(source, target): _zero(selection, means)
        for source, selection in inputs_of("selection", inputs).items()
        for target, means in inputs_of("means", inputs).items()
    }


def _zero(selection: Artifact, means: Artifact) -> ZeroPoint:
    from refusalctl.stats.zero_point import zero_point

    chosen, header = formats.read_vectors(selection.path / SELECTION_FILE, "selection")
    theirs, known = formats.read_vectors(means.path / DIRECTIONS_FILE, "directions")
    pos, layer = header["pos"], header["layer"]
    if pos not in known["positions"] or "mean_harmful" not in theirs:
        return ZeroPoint(None, None, None, f"the target's means are not known at position {pos}", means.id)
    at = (known["positions"].index(pos), layer)
    found = zero_point(chosen["direction"], theirs["mean_harmless"][at], theirs["mean_harmful"][at])
    together = "the target's harmful and harmless mean lie together along this direction"
    return ZeroPoint(*found, together if found.place is None else None, means.id)
