"""Activation files of several languages, open side by side: one slice of position and layer is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np

from refusalctl.errors import BadInput
from refusalctl.records.rows import KINDS
from refusalctl.stats.similarity import LabelledActivations
from refusalctl.steps.activations import ActivationHeader, open_collected
from refusalctl.store import formats
from refusalctl.store.store import Artifact


class Place(NamedTuple):
    pos: int
    layer: int


class ActivationStack:
    """Open activation files of several languages, read one (position, layer) at a time."""

    def __init__(
        self,
        data: Mapping[str, Mapping[str, formats.Rows]],
        header: ActivationHeader,
        ids: Mapping[str, Mapping[str, list[str]]],
    ) -> None:
        self._data, self.header, self.ids = data, header, ids
        self.positions = [*header.positions, header.inst_position]
        self.n_layers, self.d_model = next(iter(data.values()))["harmful"].shape[2:]

    @property
    def langs(self) -> list[str]:
        return list(self._data)

    @property
    def classes(self) -> tuple[list[str], list[str]]:
        """Every harmful and every harmless prompt id, each once, in a fixed order."""
        harmful, harmless = (sorted({i for by in self.ids.values() for i in by[kind]}) for kind in KINDS)
        return harmful, harmless

    def at(self, lang: str, place: Place) -> LabelledActivations:
        column = self.positions.index(place.pos)
        parts = [np.asarray(self._data[lang][kind][:, column, place.layer]) for kind in KINDS]
        signs = np.repeat(np.array([1, -1], np.int8), [len(p) for p in parts])
        sample = LabelledActivations(np.concatenate(parts), tuple(i for k in KINDS for i in self.ids[lang][k]), signs)
        if not np.isfinite(sample.rows).all():
            raise BadInput(f"the {lang} activations at position {place.pos}, layer {place.layer} are not finite")
        return sample


@contextmanager
def open_stack(inputs: Mapping[str, Artifact]) -> Iterator[ActivationStack]:
    """Inputs are named `harmful:LANG` and `harmless:LANG`. Raises `BadInput` unless all hold the same positions."""
    data: dict[str, dict[str, formats.Rows]] = {}
    ids: dict[str, dict[str, list[str]]] = {}
    headers: list[ActivationHeader] = []
    with ExitStack() as files:
        for name, artifact in inputs.items():
            kind, _, lang = name.partition(":")
            rows, header = files.enter_context(open_collected(artifact))
            data.setdefault(lang, {})[kind] = rows
            ids.setdefault(lang, {})[kind] = header.prompt_ids
            headers.append(header)
        shapes = {rows.shape[1:] for by in data.values() for rows in by.values()}
        grids = {(tuple(h.positions), h.inst_position) for h in headers}
        if len(shapes) != 1 or len(grids) != 1:
            raise BadInput("activations of one geometry must come from one model at the same positions")
        yield ActivationStack(data, headers[0], ids)
