"""`geometry`: activations of several languages to how alike their directions are, and how far their classes lie apart.

One slice of position and layer is in memory at a time, for all languages: n_langs x n_prompts x d_model values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from refusalctl.errors import BadInput
from refusalctl.records.geometry import (
    CosineCurve,
    Curves,
    GeometryParameters,
    LanguageGeometry,
    ReliabilityCurve,
    Sites,
)
from refusalctl.records.rows import KINDS
from refusalctl.settings import GeometrySettings
from refusalctl.stats.selection_rule import layer_limit
from refusalctl.stats.similarity import Draws, cosines, direction, halved, halves, reliability, shuffles
from refusalctl.steps.activation_stack import ActivationStack, Place, open_stack
from refusalctl.steps.activations import collect_activations
from refusalctl.steps.foresight import check_layers, chosen_positions, end_of_instruction
from refusalctl.steps.geometry_sites import measure_site
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

LATEST = 0.8  # share of layers among which a place is looked for, as in the selection rules


def _run(job: Job) -> RunChecks:
    asked = msgspec.convert(dict(job.params), GeometryParameters)
    with open_stack(job.inputs) as stack:
        rng = np.random.default_rng(asked.seed)
        splits, null = halves(stack.classes, asked.halves, rng), shuffles(stack.classes, asked.permutations, rng)
        curves = _curves(stack, splits, job)
        place = _given(stack, asked.at) or most_reliable(curves, stack.header.positions, stack.n_layers)
        harmfulness = Place(stack.header.inst_position, place.layer)
        with job.bench.progress.task("geometry: nulls", 2) as advance:
            sites = []
            for each in (place, harmfulness):
                sites.append(measure_site(stack, each, asked, splits, null))
                advance()
        value = LanguageGeometry(
            settings=asked,
            langs=tuple(stack.langs),
            n={lang: {kind: len(by[kind]) for kind in KINDS} for lang, by in stack.ids.items()},
            same_prompts=len({tuple(map(tuple, by.values())) for by in stack.ids.values()}) == 1,
            positions=tuple(stack.header.positions),
            inst_position=stack.header.inst_position,
            suffix_tokens=tuple(stack.header.suffix_tokens),
            n_layers=stack.n_layers,
            d_model=stack.d_model,
            curves=curves,
            sites=Sites(*sites),
            harmfulness_to_refusal={
                lang: _cosine(*(direction(stack.at(lang, each)) for each in (place, harmfulness)))
                for lang in stack.langs
            },
        )
    formats.write_record(job.out, value)
    return {"languages": len(value.langs), "place": list(place)}


def _cosine(one: NDArray[np.float64] | None, two: NDArray[np.float64] | None) -> float | None:
    """Cosine of two directions [d_model]; None where one of them is none."""
    return None if one is None or two is None else float(cosines(one[None], two[None])[0])


def _curves(stack: ActivationStack, splits: Draws, job: Job) -> Curves:
    """Cosine of each pair and reliability of each language at every matched (position, layer); None: no direction."""
    pairs = list(combinations(stack.langs, 2))
    cosine: dict[tuple[str, str, int], list[float | None]] = {(*p, pos): [] for p in pairs for pos in stack.positions}
    steady: dict[tuple[str, int], list[float | None]] = {(x, pos): [] for x in stack.langs for pos in stack.positions}
    with job.bench.progress.task("geometry: layers", len(stack.positions) * stack.n_layers) as advance:
        for pos in stack.positions:
            for layer in range(stack.n_layers):
                found = {}
                for lang in stack.langs:
                    sample = stack.at(lang, Place(pos, layer))
                    found[lang] = direction(sample)
                    parts = halved(sample, splits) if found[lang] is not None else None
                    steady[lang, pos].append(None if parts is None else reliability(parts).full)
                for a, b in pairs:
                    cosine[a, b, pos].append(_cosine(found[a], found[b]))
                advance()
    return Curves(
        cosine=tuple(CosineCurve(a, b, pos, tuple(v)) for (a, b, pos), v in cosine.items()),
        reliability=tuple(ReliabilityCurve(lang, pos, tuple(v)) for (lang, pos), v in steady.items()),
    )


def most_reliable(curves: Curves, positions: Sequence[int], n_layers: int) -> Place:
    """Where the least reliable language is most reliable; looks at no comparison between languages.

    Raises `BadInput` where no place has a reproducible direction in every language.
    """
    places = []
    for pos in positions:
        rows = [curve.values for curve in curves.reliability if curve.pos == pos]
        for layer in range(layer_limit(LATEST, n_layers)):
            known = [row[layer] for row in rows if row[layer] is not None]
            if len(known) == len(rows):
                places.append((min(v for v in known if v is not None), pos, layer))
    if not places:
        raise BadInput(
            "at no position and layer do all languages have a direction that two halves of the prompts agree on",
            hint="use more train prompts, or leave out the language whose reliability is lowest",
        )
    _, pos, layer = max(places)
    return Place(pos, layer)


def _given(stack: ActivationStack, at: tuple[int, int] | None) -> Place | None:
    """The place that was asked for. Raises `BadInput` for a position or layer that was not collected."""
    if at is None:
        return None
    place = Place(*at)
    if place.pos not in stack.header.positions or not 0 <= place.layer < stack.n_layers:
        raise BadInput(
            f"there are no activations at position {place.pos}, layer {place.layer}",
            hint=f"positions {stack.header.positions}, layers 0 to {stack.n_layers - 1}",
        )
    return place


GEOMETRY = Step("geometry", 3, "geometry", _run)


def geometry_of_activations(
    bench: Workbench,
    collected: Mapping[str, Mapping[str, Artifact]],
    settings: GeometrySettings,
    model: str,
    seed: int = 0,
) -> Artifact:
    """Geometry of activations that are there: language to class to artifact. Runs no model."""
    asked = parameters(settings, list(collected), seed)
    inputs = {f"{kind}:{lang}": by[kind] for lang, by in collected.items() for kind in KINDS}
    n = min(a.about["n"] for a in inputs.values())
    about = {"model": model, "langs": ",".join(collected), "reference": asked.reference, "n": n}
    return bench.obtain(GEOMETRY, msgspec.to_builtins(asked), inputs, about)


def compare_geometry(bench: Workbench, settings: GeometrySettings) -> Artifact:
    """Likeness of the directions of the languages asked for, on train prompts that are collected first where needed."""
    langs, seed = list(bench.settings.langs), bench.settings.prompts.seed
    parameters(settings, langs, seed)  # complain before anything is collected
    if settings.at is not None:
        pos, layer = settings.at
        chosen_positions(end_of_instruction(bench, bench.settings.selection.positions), [pos])
        check_layers(bench, [layer])
    collected: dict[str, dict[str, Artifact]] = {
        lang: {kind: collect_activations(bench, draw_prompts(bench, lang, kind, "train")) for kind in KINDS}
        for lang in langs
    }
    return geometry_of_activations(bench, collected, settings, bench.ref.name, seed)


def parameters(settings: GeometrySettings, langs: Sequence[str], seed: int) -> GeometryParameters:
    """Settings with the reference and the seed filled in. Raises `BadInput` for values that make no sense."""
    if len(langs) < 2:
        raise BadInput("geometry compares languages: name at least two", hint="such as --langs en,be")
    reference = settings.reference or langs[0]
    if reference not in langs:
        raise BadInput(f"the reference {reference!r} is not among {', '.join(langs)}")
    return msgspec.convert(settings.to_json() | {"reference": reference, "seed": seed}, GeometryParameters)


def read_geometry(artifact: Artifact) -> LanguageGeometry:
    return formats.read_record(artifact.path, LanguageGeometry)
