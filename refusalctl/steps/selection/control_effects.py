"""`controls`: what control directions do to a target's refusal score, beside the real direction.

Measured per cell on validation prompts and without writing completions: ablated on harmful prompts, added to harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from refusalctl.errors import EmptySelection
from refusalctl.json_types import Json, JsonObject
from refusalctl.records.controls import (
    AddedControls,
    Controls,
    CosineSize,
    FamilyDrops,
    FamilyRises,
    ShuffledSelection,
)
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.interventions import CONTROLS_FILE as VECTORS
from refusalctl.steps.interventions import SELECTION_FILE, SUBSPACE_FILE
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.controls import SUBSPACES, draw_control_directions, openings_to_compare_by
from refusalctl.steps.selection.openings import read_openings
from refusalctl.steps.selection.scorer import Scorer
from refusalctl.steps.selection.scores import select_direction
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.subspace import build_subspace
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch


def _run(job: Job) -> RunChecks:
    from refusalctl.model.hooks import Intervention

    families, header = formats.read_vectors(job.inputs["directions"].path / VECTORS, "control_directions")
    tensors, chosen = formats.read_vectors(job.inputs["selection"].path / SELECTION_FILE, "selection")
    opening = read_openings(job.inputs["openings"])
    scorer = Scorer(job.bench.model, [list(each) for each in opening.sequences], job.bench.machine.batch_size)
    everything = scorer.encode(job, read_prompts(job.inputs["val_harmful"]))
    baseline = scorer.refusal(everything, Intervention())
    index = [i for i, score in enumerate(baseline.tolist()) if score > 0][: job.params["n_prompts"]]
    if not index:
        raise EmptySelection(
            f"none of {len(everything)} harmful validation prompts of {job.params['target']} has a refusal score "
            "above 0: there is no refusal for a control to remove"
        )
    encoded, before = [everything[i] for i in index], float(baseline[index].mean())

    rank, ablated = job.params["rank"], _ablated(job, tensors["direction"], families)

    def drop(vectors: torch.Tensor) -> float:
        done = Intervention("ablate" if rank == 1 else "subspace", vectors, chosen["layer"])
        return before - float(scorer.refusal(encoded, done).mean())

    real = drop(ablated.real)
    drops = _effects(job, ablated.families, drop, "drop")
    added, not_added, more = _added(job, scorer, tensors["direction"], chosen["layer"], families)
    passes = len(everything) + len(index) * (1 + sum(len(d) for d in drops.values())) + more
    rows = _families(tensors["direction"], ablated.families, real, drops)
    used = {name: rows[name] for name in ablated.deciding}
    value = Controls(
        source=job.params["source"],
        target=job.params["target"],
        drop=real,
        baseline=before,
        families=rows,
        p=max(each.p for each in used.values()),
        p_reverse=max(each.p_reverse for each in used.values()),
        p_families=tuple(used),
        smallest_p=max(1 / (each.n + 1) for each in used.values()),
        rank=rank,
        n_prompts=len(index),
        n_val=len(everything),
        prompt_passes=passes,
        selection_of_shuffled=_selection(header),
        languages=tuple(header["languages"]),
        added=added,
        not_added=not_added,
    )
    formats.write_record(job.out, value)
    return {"prompt_passes": passes, "p": value.p}


class Ablated(NamedTuple):
    """What is ablated and compared: the real direction [d_model] and draws [n, d_model], or for several directions at
    once bases [rank, d_model] and [n, rank, d_model]; and the families that decide."""

    real: torch.Tensor
    families: dict[str, torch.Tensor]
    deciding: tuple[str, ...]


def _ablated(job: Job, direction: torch.Tensor, families: dict[str, torch.Tensor]) -> Ablated:
    """Draws of the rank of the ablation that they stand beside."""
    from refusalctl.stats.controls import VERDICT_FAMILIES

    if job.params["rank"] == 1:
        return Ablated(direction, families, VERDICT_FAMILIES)
    basis, _header = formats.read_vectors(job.inputs["subspace"].path / SUBSPACE_FILE, "subspace")
    return Ablated(basis["basis"], {SUBSPACES: families[SUBSPACES]}, (SUBSPACES,))


def _selection(header: Mapping[str, Json]) -> ShuffledSelection:
    return msgspec.convert({name: header[name] for name in ShuffledSelection.__struct_fields__}, ShuffledSelection)


def _added(
    job: Job, scorer: Scorer, direction: torch.Tensor, layer: int, families: dict[str, torch.Tensor]
) -> tuple[AddedControls | None, str | None, int]:
    """What the verdict's families do to harmless prompts when they are added, why nothing was, and prompts run.

    They have the direction's length, so the dose is the same; each has a sign of its own.
    """
    from refusalctl.model.hooks import Intervention
    from refusalctl.stats.controls import VERDICT_FAMILIES, p_value

    coeff = job.params["coeff"]
    if coeff is None:
        return None, None, 0
    everything = scorer.encode(job, read_prompts(job.inputs["val_harmless"]))
    baseline = scorer.refusal(everything, Intervention())
    index = [i for i, score in enumerate(baseline.tolist()) if score < 0][: job.params["n_prompts"]]
    if not index:
        why = f"none of {len(everything)} harmless validation prompts of {job.params['target']} has a score below 0"
        return None, why, len(everything)
    encoded, before = [everything[i] for i in index], float(baseline[index].mean())

    def rise(vector: torch.Tensor) -> float:
        return float(scorer.refusal(encoded, Intervention("add", vector, layer, coeff)).mean()) - before

    real = rise(direction)
    rises = _effects(job, {name: families[name] for name in VERDICT_FAMILIES}, rise, "rise")
    rows = {
        name: FamilyRises(len(each), tuple(each), p_value(real, each), p_value(-real, [-value for value in each]))
        for name, each in rises.items()
    }
    passes = len(everything) + len(index) * (1 + sum(len(each) for each in rises.values()))
    return AddedControls(coeff, real, before, len(index), rows), None, passes


def _effects(
    job: Job, families: dict[str, torch.Tensor], effect: Callable[[torch.Tensor], float], what: str
) -> dict[str, list[float]]:
    """`effect` of every draw; finished ones outlive an interruption."""
    rows = FinishedRows(job.partial, f"{what}s.jsonl")
    done = {(row["family"], row["i"]): row[what] for row in rows}
    found: dict[str, list[float]] = {}
    name = f"controls {job.params['source']} in {job.params['target']}"
    with job.bench.progress.task(name, sum(len(v) for v in families.values())) as advance:
        for family, vectors in sorted(families.items()):
            found[family] = []
            for i, vector in enumerate(vectors):
                if (family, i) not in done:
                    done[family, i] = effect(vector)
                    rows.add({"family": family, "i": i, what: done[family, i]})
                found[family].append(done[family, i])
                advance()
    return found


def _families(
    direction: torch.Tensor, families: dict[str, torch.Tensor], real: float, drops: dict[str, list[float]]
) -> dict[str, FamilyDrops]:
    from refusalctl.stats.controls import p_value

    rows = {}
    for name, values in drops.items():
        cosine = _cosine(families[name].double(), direction.double())
        size = CosineSize(float(cosine.mean()), float(cosine.max()))
        reverse = p_value(-real, [-value for value in values])
        rows[name] = FamilyDrops(len(values), tuple(values), p_value(real, values), reverse, size)
    return rows


def _cosine(draws: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """|cosine| [n] of draws to a direction; of subspaces with orthonormal rows, to its projection on them."""
    import torch

    if draws.ndim == 3:
        projected: torch.Tensor = (draws @ (direction / direction.norm())).norm(dim=1)
        return projected
    return torch.nn.functional.cosine_similarity(draws, direction[None]).abs()


CONTROLS = Step("controls", 3, "controls", _run, uses_model=True)


def compare_controls(bench: Workbench, source: str, target: str) -> Artifact:
    """Drop of the target's refusal score (log-odds, mean over prompts) by the source's direction and its controls.

    Raises `EmptySelection` where the source has no direction, or the target refuses too little to tell.
    """
    inputs = {
        "selection": select_direction(bench, source),
        "directions": draw_control_directions(bench, source),
        "openings": openings_to_compare_by(bench, target),
        "val_harmful": draw_prompts(bench, target, "harmful", "val"),
    }
    params: JsonObject = {"source": source, "target": target, "n_prompts": bench.settings.controls.control_prompts}
    params["rank"] = bench.settings.verdict.rank
    if bench.settings.verdict.rank > 1:
        inputs["subspace"] = build_subspace(bench, inputs["selection"], source)
    params["coeff"] = bench.settings.verdict.doses[0] if bench.settings.verdict.induce else None
    if params["coeff"] is not None:
        inputs["val_harmless"] = draw_prompts(bench, target, "harmless", "val")
    about = {"model": bench.ref.name, "source": source, "target": target, "data": bench.settings.prompts.data}
    about["lang"] = target
    return bench.obtain(CONTROLS, params, inputs, about)


def read_controls(artifact: Artifact) -> Controls:
    return formats.read_record(artifact.path, Controls)
