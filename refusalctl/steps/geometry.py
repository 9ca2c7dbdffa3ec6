"""`geometry`: activations of several languages to how alike their directions are, and how far their classes lie apart.

One slice of position and layer is in memory at a time, for all languages: n_langs x n_prompts x d_model values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from refusalctl.errors import BadInput
from refusalctl.stats.paired import fdr_by
from refusalctl.stats.permutation import permutation_p
from refusalctl.steps.activations import ACTIVATIONS_FILE, collect_activations
from refusalctl.steps.directions import KINDS
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    from refusalctl.stats.similarity import DirectionEstimate, Draws, LabelledActivations

GEOMETRY_FILE = "geometry.json"
SUBSPACE_SHUFFLES = 99  # each costs a singular value decomposition per language
LATEST = 0.8  # share of layers among which a place is looked for, as in the selection rules


@dataclass(frozen=True)
class GeometryParams:
    """`at`: (position, layer) of the refusal direction; None takes the most reliable one. `reference`: the language
    on whose direction all are projected."""

    reference: str
    at: tuple[int, int] | None = None
    halves: int = 50
    permutations: int = 999
    separation_permutations: int = 99
    components: int = 3
    seed: int = 0

    def check(self, langs: list[str]) -> None:
        """Raise `BadInput` for a value that cannot be meant."""
        if len(langs) < 2:
            raise BadInput("geometry compares languages: name at least two", hint="such as --langs en,be")
        if self.reference not in langs:
            raise BadInput(f"the reference {self.reference!r} is not among {', '.join(langs)}")
        for name in ("halves", "permutations", "separation_permutations", "components"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}, expected at least 1")


class Place(NamedTuple):
    pos: int
    layer: int


class Stack:
    """Open activation files of several languages, read one (position, layer) at a time."""

    def __init__(self, data: Mapping[str, Mapping[str, Any]], header: Mapping[str, Any], ids: Any) -> None:
        self._data, self.header, self.ids = data, header, ids
        self.positions = [*header["positions"], header["inst_position"]]
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
        from refusalctl.stats.similarity import LabelledActivations

        column = self.positions.index(place.pos)
        parts = [np.asarray(self._data[lang][kind][:, column, place.layer]) for kind in KINDS]
        signs = np.repeat(np.array([1, -1], np.int8), [len(p) for p in parts])
        found = LabelledActivations(np.concatenate(parts), tuple(i for k in KINDS for i in self.ids[lang][k]), signs)
        if not np.isfinite(found.rows).all():
            raise BadInput(f"the {lang} activations at position {place.pos}, layer {place.layer} are not finite")
        return found


@contextmanager
def opened(inputs: Mapping[str, Artifact]) -> Iterator[Stack]:
    """Inputs are named `harmful:LANG` and `harmless:LANG`. Raises `BadInput` unless all hold the same positions."""
    data: dict[str, dict[str, Any]] = {}
    ids: dict[str, dict[str, list[str]]] = {}
    headers: list[dict[str, Any]] = []
    with ExitStack() as files:
        for name, artifact in inputs.items():
            kind, _, lang = name.partition(":")
            rows, header = files.enter_context(formats.open_activations(artifact.path / ACTIVATIONS_FILE))
            data.setdefault(lang, {})[kind] = rows
            ids.setdefault(lang, {})[kind] = header["prompt_ids"]
            headers.append(header)
        shapes = {rows.shape[1:] for by in data.values() for rows in by.values()}
        grids = {(tuple(h["positions"]), h["inst_position"]) for h in headers}
        if len(shapes) != 1 or len(grids) != 1:
            raise BadInput("activations of one geometry must come from one model at the same positions")
        yield Stack(data, headers[0], ids)


# --- curves over all layers --------------------------------------------------------------------------


def _curves(stack: Stack, splits: Draws, job: Job) -> dict[str, Any]:
    """Cosine of each pair and reliability of each language at every matched (position, layer); None: no direction."""
    from refusalctl.stats.similarity import cosines, direction, halved, reliability

    pairs = list(combinations(stack.langs, 2))
    cosine: dict[tuple[Any, ...], list[float | None]] = {(*p, pos): [] for p in pairs for pos in stack.positions}
    steady: dict[tuple[str, int], list[float | None]] = {(x, pos): [] for x in stack.langs for pos in stack.positions}
    with job.bench.progress.task("geometry: layers", len(stack.positions) * stack.n_layers) as advance:
        for pos in stack.positions:
            for layer in range(stack.n_layers):
                found = {}
                for lang in stack.langs:
                    sample = stack.at(lang, Place(pos, layer))
                    found[lang] = direction(sample)
                    known = found[lang] is not None
                    steady[lang, pos].append(reliability(halved(sample, splits)).full if known else None)
                for a, b in pairs:
                    one, two = found[a], found[b]
                    value = None if one is None or two is None else float(cosines(one[None], two[None])[0])
                    cosine[a, b, pos].append(value)
                advance()
    return {
        "cosine": [{"a": a, "b": b, "pos": pos, "values": v} for (a, b, pos), v in cosine.items()],
        "reliability": [{"lang": lang, "pos": pos, "values": v} for (lang, pos), v in steady.items()],
    }


def most_reliable(curves: Mapping[str, Any], positions: list[int], n_layers: int) -> Place:
    """Where the least reliable language is most reliable; looks at no comparison between languages.

    Raises `BadInput` where no place has a reproducible direction in every language.
    """
    from refusalctl.stats.selection_rule import layer_limit

    places = []
    for pos in positions:
        rows = [r["values"] for r in curves["reliability"] if r["pos"] == pos]
        for layer in range(layer_limit(LATEST, n_layers)):
            values = [row[layer] for row in rows]
            if all(v is not None for v in values):
                places.append((min(values), pos, layer))
    if not places:
        raise BadInput(
            "at no position and layer do all languages have a direction that two halves of the prompts agree on",
            hint="use more train prompts, or leave out the language whose reliability is lowest",
        )
    _, pos, layer = max(places)
    return Place(pos, layer)


# --- one place in depth ------------------------------------------------------------------------------


def _site(stack: Stack, place: Place, params: GeometryParams, splits: Draws, null: Draws) -> dict[str, Any]:
    """Pairs, languages and projections at one position and layer."""
    from refusalctl.stats.similarity import estimate

    samples = {lang: stack.at(lang, place) for lang in stack.langs}
    estimates = {lang: estimate(sample, splits, null) for lang, sample in samples.items()}
    pairs = _pairs({lang: e for lang, e in estimates.items() if e is not None})
    _angles(samples, pairs, params, null)
    languages = {lang: _language(sample, params) for lang, sample in samples.items()}
    for lang, e in estimates.items():
        languages[lang]["reliability"] = None if e is None else e.reliability._asdict()
    none = [lang for lang, e in estimates.items() if e is None]
    return {
        **place._asdict(),
        "no_direction": none,
        "pairs": pairs,
        "languages": languages,
        "projection": _projection(samples, params) if params.reference not in none else None,
    }


def _pairs(estimates: Mapping[str, DirectionEstimate]) -> list[dict[str, Any]]:
    """Every pair's likeness; `p_by` controls the false discovery rate over the pairs under any dependence."""
    from refusalctl.stats.similarity import likeness

    rows: list[dict[str, Any]] = [
        {"a": a, "b": b, **likeness(estimates[a], estimates[b])._asdict()} for a, b in combinations(estimates, 2)
    ]
    for row, p in zip(rows, fdr_by([row["p"] for row in rows]), strict=True):
        row["p_by"] = p
    return rows


def _angles(
    samples: Mapping[str, LabelledActivations], pairs: list[dict[str, Any]], params: GeometryParams, null: Draws
) -> None:
    """Add principal angles of difference subspaces to each pair, and what shuffled labels give."""
    from refusalctl.stats.similarity import difference_subspace, subspace_angles

    def bases(draw: int | None) -> dict[str, Any]:
        signs = {k: s.signs if draw is None else null.of(s.ids)[draw] for k, s in samples.items()}
        return {k: difference_subspace(s.rows, signs[k], params.components) for k, s in samples.items()}

    real = bases(None)
    for row in pairs:
        row["angles"] = subspace_angles(real[row["a"]], real[row["b"]]).tolist()
        row["_null"] = []
    draws = min(SUBSPACE_SHUFFLES, params.permutations)
    for draw in range(draws):
        shuffled = bases(draw)
        for row in pairs:
            row["_null"].append(subspace_angles(shuffled[row["a"]], shuffled[row["b"]]).mean())
    for row in pairs:
        nulls = np.array(row.pop("_null"))
        row["angle_null_05"] = float(np.quantile(nulls, 0.05))
        row["angle_p"] = permutation_p(int((nulls <= np.mean(row["angles"])).sum()), draws)


def _language(sample: LabelledActivations, params: GeometryParams) -> dict[str, Any]:
    """Separation in full space and the map of one language. None where all activations are the same."""
    from refusalctl.stats.separation import auroc, coordinates, pca_map, silhouette

    if not np.ptp(sample.rows, axis=0).any():
        return {"auroc": None, "silhouette": None, "map": None}
    points = coordinates(sample.rows)
    drawn = pca_map(points, sample.signs)
    n = params.separation_permutations
    return {
        "auroc": auroc(points, sample.signs, n, params.seed)._asdict(),
        "silhouette": silhouette(points, sample.signs, n, np.random.default_rng(params.seed))._asdict(),
        "map": {
            "harmful": drawn.points[sample.signs > 0].round(4).tolist(),
            "harmless": drawn.points[sample.signs < 0].round(4).tolist(),
            "explained": drawn.explained.tolist(),
        },
    }


def _projection(samples: Mapping[str, LabelledActivations], params: GeometryParams) -> dict[str, Any]:
    from refusalctl.stats.separation import folds, projections

    everyone = sorted({i for s in samples.values() for i in s.ids})
    fold_of = folds(everyone, np.random.default_rng(params.seed))
    try:
        found = projections(samples[params.reference], list(samples.values()), fold_of)
    except BadInput as error:  # a finding about this place, not about the languages' likeness
        return {"reference": params.reference, "reason": error.message, "languages": {}}
    rows = {
        lang: {"harmful": p.harmful.round(4).tolist(), "harmless": p.harmless.round(4).tolist(), "auroc": p.auroc}
        for lang, p in zip(samples, found)
    }
    return {"reference": params.reference, "languages": rows}


def _run(job: Job) -> dict[str, Any]:
    from refusalctl.stats.similarity import cosines, direction, halves, shuffles

    at = job.params["at"]
    params = GeometryParams(**{**job.params, "at": Place(*at) if at else None})
    with opened(job.inputs) as stack:
        rng = np.random.default_rng(params.seed)
        splits, null = halves(stack.classes, params.halves, rng), shuffles(stack.classes, params.permutations, rng)
        curves = _curves(stack, splits, job)
        place = _known(stack, params.at) or most_reliable(curves, stack.header["positions"], stack.n_layers)
        places = {"refusal": place, "harmfulness": Place(stack.header["inst_position"], place.layer)}
        with job.bench.progress.task("geometry: nulls", len(places)) as advance:
            sites = {}
            for name, each in places.items():
                sites[name] = _site(stack, each, params, splits, null)
                advance()
        between: dict[str, float | None] = {}
        for lang in stack.langs:
            one, two = (direction(stack.at(lang, each)) for each in places.values())
            between[lang] = None if one is None or two is None else float(cosines(one[None], two[None])[0])
        value = {
            "settings": asdict(params) | {"chosen_at": "given" if params.at else "most reliable"},
            "langs": stack.langs,
            "n": {lang: {kind: len(ids) for kind, ids in by.items()} for lang, by in stack.ids.items()},
            "same_prompts": len({tuple(map(tuple, by.values())) for by in stack.ids.values()}) == 1,
            "positions": stack.header["positions"],
            "inst_position": stack.header["inst_position"],
            "suffix_tokens": stack.header["suffix_tokens"],
            "n_layers": stack.n_layers,
            "d_model": stack.d_model,
            "curves": curves,
            "sites": sites,
            "harmfulness_to_refusal": between,
        }
    formats.write_json(job.out / GEOMETRY_FILE, "geometry", value)
    return {"languages": len(stack.langs), "place": list(place)}


def _known(stack: Stack, at: tuple[int, int] | None) -> Place | None:
    """Raises `BadInput` for a position or layer that was not collected."""
    if at is None:
        return None
    place = Place(*at)
    if place.pos not in stack.header["positions"] or not 0 <= place.layer < stack.n_layers:
        raise BadInput(
            f"there are no activations at position {place.pos}, layer {place.layer}",
            hint=f"positions {stack.header['positions']}, layers 0 to {stack.n_layers - 1}",
        )
    return place


GEOMETRY = Step("geometry", 1, "geometry", _run)


def geometry_of_activations(
    bench: Workbench, collected: Mapping[str, Mapping[str, Artifact]], params: GeometryParams, model: str
) -> Artifact:
    """Geometry of activations that are there: language to class to artifact. Runs no model."""
    params.check(list(collected))
    inputs = {f"{kind}:{lang}": by[kind] for lang, by in collected.items() for kind in KINDS}
    n = min(a.about["n"] for a in inputs.values())
    about = {"model": model, "langs": ",".join(collected), "reference": params.reference, "n": n}
    given = asdict(params) | {"at": list(params.at) if params.at else None}
    return bench.obtain(GEOMETRY, given, inputs, about)


def compare_geometry(bench: Workbench, langs: list[str], params: GeometryParams) -> Artifact:
    """Likeness of the languages' directions on train prompts, collected first where needed."""
    params.check(langs)
    collected: dict[str, dict[str, Artifact]] = {
        lang: {str(kind): collect_activations(bench, draw_prompts(bench, lang, kind, "train")) for kind in KINDS}
        for lang in langs
    }
    named = {lang: {str(kind): artifact for kind, artifact in kinds.items()} for lang, kinds in collected.items()}
    return geometry_of_activations(bench, named, params, bench.ref.name)


def read_geometry(artifact: Artifact) -> dict[str, Any]:
    return formats.read_json(artifact.path / GEOMETRY_FILE, "geometry")
