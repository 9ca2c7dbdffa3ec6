"""`control-directions`: other directions of a source's stream, drawn once for all the targets that it is applied in.

What they do there, at no more damage than the real direction does, is measured in `control_effects`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refusalctl.errors import EmptySelection, UnfitOpenings
from refusalctl.json_types import JsonObject
from refusalctl.records.cell import ControlFamily
from refusalctl.settings import Settings
from refusalctl.steps.activations import ACTIVATIONS_FILE, collect_activations
from refusalctl.steps.directions import DIRECTIONS_FILE, KINDS, extract_directions
from refusalctl.steps.interventions import CONTROLS_FILE as VECTORS
from refusalctl.steps.interventions import SELECTION_FILE, SUBSPACE_FILE
from refusalctl.steps.prompts import draw_prompts
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


def _activations(job: Job, kind: str, pos: int, layer: int) -> torch.Tensor:
    """Train activations [n_prompts, d_model] of one class at the selected place."""
    import torch

    _tensors, header = formats.read_vectors(job.inputs["directions"].path / DIRECTIONS_FILE, "directions")
    with formats.open_activations(job.inputs[kind].path / ACTIVATIONS_FILE) as (data, _header):
        return torch.from_numpy(data[:, header["positions"].index(pos), layer])


def _run_directions(job: Job) -> RunChecks:
    import torch

    from refusalctl.stats import controls as stats

    n, rank = job.params["n"], job.params["rank"]
    generator = torch.Generator().manual_seed(job.params["seed"])
    tensors, header = formats.read_vectors(job.inputs["selection"].path / SELECTION_FILE, "selection")
    direction = tensors["direction"]
    basis = direction[None]
    if rank > 1:
        held, _header = formats.read_vectors(job.inputs["subspace"].path / SUBSPACE_FILE, "subspace")
        basis = held["basis"]
    rows = {kind: _activations(job, kind, header["pos"], header["layer"]) for kind in KINDS}
    length = float(direction.norm())
    alone = stats.deviations(rows["harmful"], rows["harmless"], direction[None])
    drawn: dict[str, torch.Tensor] = {FAMILY: stats.within_class(alone, length, n, generator)}
    if rank > 1:
        together = stats.deviations(rows["harmful"], rows["harmless"], basis)
        drawn[SUBSPACES] = stats.subspaces(together, rank, n, generator)
    about = {"lang": job.inputs["directions"].about["lang"], "rank": rank, "layer": header["layer"]}
    formats.write_vectors(job.out / VECTORS, "control_directions", drawn, about)
    return {"draws": n}


DRAW_CONTROLS = Step("control-directions", 6, "control_directions", _run_directions)


def n_controls(settings: Settings) -> int:
    """Draws: as given, or 39, whatever the number of cells."""
    from refusalctl.stats.controls import DRAWS

    return settings.controls.n_controls if settings.controls.n_controls is not None else DRAWS


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
    rank = bench.settings.verdict.rank
    if rank > 1:
        inputs["subspace"] = build_subspace(bench, chosen, source)
    n = n_controls(bench.settings)
    params: JsonObject = {"n": n, "seed": bench.settings.prompts.seed, "rank": rank}
    about: JsonObject = {
        "model": bench.ref.name,
        "revision": bench.ref.revision,
        "lang": source,
        "rank": rank,
        "data": bench.settings.prompts.data,
        "n": n,
    }
    return bench.obtain(DRAW_CONTROLS, params, inputs, about)
