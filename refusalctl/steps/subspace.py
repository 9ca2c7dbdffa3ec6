"""A basis of several directions at a selection's position and layer, for ablation of rank k."""

from __future__ import annotations

from refusalctl.steps.activations import ACTIVATIONS_FILE, collect_activations
from refusalctl.steps.directions import KINDS
from refusalctl.steps.interventions import SELECTION_FILE, SUBSPACE_FILE
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact


def _run(job: Job) -> RunChecks:
    import torch

    from refusalctl.stats.subspace import contrastive_basis

    _, chosen = formats.read_vectors(job.inputs["selection"].path / SELECTION_FILE, "selection")
    rows = {}
    for kind in KINDS:
        with formats.open_activations(job.inputs[kind].path / ACTIVATIONS_FILE) as (data, header):
            rows[kind] = torch.from_numpy(data[:, header["positions"].index(chosen["pos"]), chosen["layer"]])
    basis = contrastive_basis(rows["harmful"], rows["harmless"], job.params["rank"])
    about = {"pos": chosen["pos"], "layer": chosen["layer"], "lang": chosen["lang"], "rank": job.params["rank"]}
    formats.write_vectors(job.out / SUBSPACE_FILE, "subspace", {"basis": basis}, about)
    return {"rank": len(basis)}


SUBSPACE = Step("subspace", 1, "subspace", _run)


def build_subspace(bench: Workbench, selection: Artifact, lang: str) -> Artifact:
    """`rank` orthonormal directions of one language: difference-in-means first, then contrastive ones."""
    inputs = {"selection": selection}
    for kind in KINDS:
        drawn = draw_prompts(bench, lang, kind, "train")
        inputs[kind] = collect_activations(bench, drawn)
    about = {k: selection.about[k] for k in ("model", "revision", "lang", "data")} | {
        "rank": bench.settings.verdict.rank
    }
    return bench.obtain(SUBSPACE, {"rank": bench.settings.verdict.rank}, inputs, about)
