"""`control-directions`: other directions of a source's stream, drawn and searched once for all its targets.

What they do there, at no more damage than the real direction does, is measured in `control_effects`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refusalctl.errors import BadInput, EmptySelection, UnfitOpenings
from refusalctl.json_types import JsonObject
from refusalctl.records.cell import ControlFamily
from refusalctl.records.selection import Candidate
from refusalctl.settings import Settings
from refusalctl.steps.activations import collect_activations
from refusalctl.steps.directions import KINDS, extract_directions
from refusalctl.steps.interventions import CONTROLS_FILE as VECTORS
from refusalctl.steps.interventions import SELECTION_FILE, SUBSPACE_FILE
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.control_search import Place, places_of, search
from refusalctl.steps.selection.openings import checked_openings
from refusalctl.steps.selection.scores import select_direction
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.subspace import build_subspace
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch

FAMILY: ControlFamily = "within_class"
SUBSPACES = "subspaces"  # beside single directions: [n, rank, d_model], where several are ablated together


def _run_directions(job: Job) -> RunChecks:
    import torch

    n, rank = job.params["n"], job.params["rank"]
    generator = torch.Generator().manual_seed(job.params["seed"])
    tensors, header = formats.read_vectors(job.inputs["selection"].path / SELECTION_FILE, "selection")
    winner = Candidate(header["pos"], header["layer"])
    places = places_of(job)
    about = {
        "lang": job.inputs["directions"].about["lang"],
        "rank": rank,
        "layer": header["layer"],
        "candidates": len(places),
        "prompt_passes": 0,
    }
    drawn: dict[str, torch.Tensor] = {}
    for family in job.params["families"]:
        basis = tensors["direction"][None]
        if family == SUBSPACES:
            basis = formats.read_vectors(job.inputs["subspace"].path / SUBSPACE_FILE, "subspace")[0]["basis"]
        draws, varying = draws_at(places, winner, basis, n, generator)
        found = search(job, varying, draws, f"places-{family}.jsonl")
        drawn[family] = torch.stack([draws[place][i] for i, place in enumerate(found.chosen)])
        about[f"places_{family}"] = [list(varying[place].at) for place in found.chosen]
        about["candidates"] = min(about["candidates"], len(varying))
        about["prompt_passes"] += found.passes
    about["searched"] = min(job.params["max_candidates"] or about["candidates"], about["candidates"])
    formats.write_vectors(job.out / VECTORS, "control_directions", drawn, about)
    return {"draws": n, "searched": about["searched"], "prompt_passes": about["prompt_passes"]}


def draws_at(
    places: list[Place], winner: Candidate, basis: torch.Tensor, n: int, generator: torch.Generator
) -> tuple[list[torch.Tensor], list[Place]]:
    """The same draws at every place, of the rank of `basis` [rank, d_model], and the places: those where prompts of a
    class do not vary enough have none. Raises `BadInput` where the selected place is one of them.

    Nowhere do harmful prompts lend them the directions that were chosen, nor the candidate of the place.
    """
    import torch

    from refusalctl.stats import controls as stats

    rank = len(basis)
    weights = stats.coefficients(n * rank, places[0].n_prompts, generator)
    found, varying = [], []
    for place in places:
        centred = stats.deviations(place.harmful, place.harmless, torch.cat([basis, place.real[None]]))
        try:
            vectors = stats.within_class(centred, float(place.real.norm()), weights)
            found.append(vectors if rank == 1 else stats.spans(vectors, rank))
        except BadInput:
            if place.at == winner:
                raise
            continue
        varying.append(place)
    return found, varying


DRAW_CONTROLS = Step("control-directions", 10, "control_directions", _run_directions, uses_model=True)


def n_controls(settings: Settings) -> int:
    """Draws: as given, or 39, whatever the number of cells."""
    from refusalctl.stats.controls import DRAWS

    return settings.controls.n_controls if settings.controls.n_controls is not None else DRAWS


def _families(settings: Settings) -> list[str]:
    """What is drawn: single directions are what is added, and ablated where one is; spans where several are."""
    several = [SUBSPACES] if settings.verdict.rank > 1 else []
    return [FAMILY, *several] if settings.verdict.induce or not several else several


def openings_to_compare_by(bench: Workbench, lang: str) -> Artifact:
    """Checked openings; a direction chosen without them leaves nothing to compare controls by."""
    try:
        return checked_openings(bench, lang)
    except UnfitOpenings as error:
        raise EmptySelection(error.message, hint=error.hint) from error


def draw_control_directions(bench: Workbench, source: str) -> Artifact:
    """Control directions of one source, shared by all its cells. Raises `EmptySelection` where it has no direction."""
    chosen = select_direction(bench, source)
    inputs = {"selection": chosen, "directions": extract_directions(bench, source)}
    for kind in KINDS:
        inputs[kind] = collect_activations(bench, draw_prompts(bench, source, kind, "train"))
        inputs[f"val_{kind}"] = draw_prompts(bench, source, kind, "val")
    inputs["openings"] = openings_to_compare_by(bench, source)
    rank = bench.settings.verdict.rank
    if rank > 1:
        inputs["subspace"] = build_subspace(bench, chosen, source)
    n = n_controls(bench.settings)
    params: JsonObject = {
        "n": n,
        "seed": bench.settings.prompts.seed,
        "families": _families(bench.settings),
        "max_candidates": bench.settings.controls.control_candidates,
        "rule": bench.settings.selection.resolved_rule().params(),
        "rank": rank,
    }
    about: JsonObject = {
        "model": bench.ref.name,
        "revision": bench.ref.revision,
        "lang": source,
        "rank": rank,
        "data": bench.settings.prompts.data,
        "n": n,
    }
    return bench.obtain(DRAW_CONTROLS, params, inputs, about)
