"""`cosmic`: a choice of direction that needs no refusal tokens, beside the one by refusal scores.

COSMIC (Siu et al. 2025, arXiv 2506.00085, section 3, and the authors' code): a direction is good if ablating it makes
harmful prompts look like harmless ones inside the model, and adding it makes harmless ones look like harmful ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refusalctl.errors import EmptySelection
from refusalctl.steps import directions as direction_step
from refusalctl.steps import prompts as prompt_step
from refusalctl.steps.directions import KINDS
from refusalctl.steps.experiment import Experiment
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch

FILE = "cosmic.json"
SHARE = 0.1  # of the layers: those where the classes' means are least alike


def choose(rows: list[dict[str, Any]], max_kl: float) -> dict[str, Any] | None:
    """The row with the highest sum of both cosines (the first of equals) whose KL passes, or None."""
    passing = [row for row in rows if row["kl"] <= max_kl]
    return max(passing, key=lambda row: row["comply"] + row["refuse"]) if passing else None


def least_alike(tensors: dict[str, torch.Tensor], column: int) -> list[int]:
    """The tenth of the layers, at least one, whose class means are least alike (cosine) at a position; not layer 0."""
    import torch

    a, b = (tensors[f"mean_{k}"][column].double() for k in KINDS)
    likeness = torch.nn.functional.cosine_similarity(a, b, dim=-1)[1:]
    n = max(1, int(SHARE * a.shape[0]))
    return sorted(int(i) + 1 for i in likeness.argsort()[:n])


def _run(job: Job) -> dict[str, Any]:
    from refusalctl.model.forward import last_logprobs
    from refusalctl.model.hooks import Intervention
    from refusalctl.model.streams import mean_stream
    from refusalctl.stats.refusal import kl_divergence
    from refusalctl.steps.scores import candidates_of

    model, size, share = job.bench.model, job.bench.batch_size, job.params["max_layer_share"]
    tensors, header = formats.read_vectors(job.inputs["directions"].path / direction_step.FILE, "directions")
    grid, _flat = candidates_of(tensors, header["positions"], share, job.params["layers"])
    layers = least_alike(tensors, len(header["positions"]) - 1)
    encoded = {k: [model.chat.encode(p.text) for p in prompt_step.read(job.inputs[f"val_{k}"])] for k in KINDS}
    plain = {k: mean_stream(model, encoded[k], layers, Intervention(), size) for k in KINDS}
    reference = last_logprobs(model, encoded["harmless"], Intervention(), size) if job.params["kl"] else None
    kept = job.partial / "cosmic.jsonl"
    rows = formats.read_finished_rows(kept)

    def at(index: int, how: str) -> Intervention:
        pos, layer = grid[index]
        vector = tensors["candidates"][header["positions"].index(pos), layer]
        return Intervention(how, vector, layer)  # type: ignore[arg-type]

    def kl(index: int) -> float | None:
        if reference is None:
            return None
        changed = last_logprobs(model, encoded["harmless"], at(index, "ablate"), size)
        return float(kl_divergence(reference, changed).mean())

    with job.bench.progress.task(f"cosmic {job.inputs['directions'].about['lang']}", len(grid)) as advance:
        advance(len(rows))
        for index in range(len(rows), len(grid)):
            comply = mean_stream(model, encoded["harmful"], layers, at(index, "ablate"), size)
            refuse = mean_stream(model, encoded["harmless"], layers, at(index, "add"), size)
            rows.append(
                {
                    "pos": grid[index].pos, "layer": grid[index].layer,
                    "comply": _cosine(comply, plain["harmless"]), "refuse": _cosine(refuse, plain["harmful"]),
                    "kl": kl(index),
                }
            )  # fmt: skip
            formats.append_rows(kept, rows[-1:])
            advance()
    value = {"layers": layers, "n": {k: len(v) for k, v in encoded.items()}, "candidates": rows}
    formats.write_json(job.out / FILE, "cosmic", value)
    return {"layers": layers}


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    import torch

    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


STEP = Step("cosmic", 2, "cosmic", _run, uses_model=True)


def cosmic(bench: Workbench, experiment: Experiment, lang: str, langs: tuple[str, ...] = ()) -> Artifact:
    """Both cosines of every candidate on all validation prompts; no rule but its layer limit enters here.

    Where COSMIC chooses, with each candidate's KL, so that the choice needs no refusal scores; else those have it.
    """
    inputs = {
        "directions": direction_step.directions(bench, experiment, lang, langs),
        **{f"val_{k}": prompt_step.prompts(bench, experiment, lang, k, "val", langs) for k in KINDS},
    }
    layers = sorted(experiment.layers) if experiment.layers is not None else None
    share = experiment.resolved_rule().max_layer_share
    params = {"layers": layers, "max_layer_share": share, "kl": experiment.criterion == "cosmic"}
    about = {"model": bench.ref.name, "lang": lang, "data": experiment.data}
    return bench.obtain(STEP, params, inputs, about)


def read(artifact: Artifact) -> dict[str, Any]:
    return formats.read_json(artifact.path / FILE, "cosmic")


def winner(rows: list[dict[str, Any]], max_kl: float) -> dict[str, Any]:
    """The chosen candidate's row. Raises `EmptySelection` where none keeps the model's answers (KL)."""
    row = choose(rows, max_kl)
    if row is None:
        least = min(row["kl"] for row in rows)
        raise EmptySelection(
            f"none of {len(rows)} candidates keeps the KL of harmless prompts at or below {max_kl:g} (COSMIC)",
            hint=f"the best would pass with --max-kl {least:.3g}",
        )
    return row
