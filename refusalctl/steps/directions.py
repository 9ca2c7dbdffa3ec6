"""`extract`: activations to candidate directions."""

from __future__ import annotations

from typing import Any

from refusalctl.data.records import Kind
from refusalctl.errors import BadInput
from refusalctl.steps import activations as activation_step
from refusalctl.steps import prompts as prompt_step
from refusalctl.steps.experiment import Experiment
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

FILE = "directions.safetensors"
KINDS: tuple[Kind, ...] = ("harmful", "harmless")


def _run(job: Job) -> dict[str, Any]:
    from refusalctl.stats.geometry import difference_in_means, mean_of

    headers, means = {}, {}
    for kind in KINDS:
        path = job.inputs[kind].path / activation_step.FILE
        with formats.open_activations(path) as (_data, header):
            headers[kind] = header
        means[kind] = mean_of(formats.activation_batches(path, len(header["positions"])))
    if headers["harmful"]["positions"] != headers["harmless"]["positions"]:
        raise BadInput("harmful and harmless activations were collected at different positions")
    candidates = difference_in_means(means["harmful"], means["harmless"])
    about = {"positions": headers["harmful"]["positions"], "suffix_tokens": headers["harmful"]["suffix_tokens"]}
    tensors = {"candidates": candidates, **{f"mean_{k}": m.float() for k, m in means.items()}}
    formats.write_vectors(job.out / FILE, "directions", tensors, about)
    return {"n_harmful": len(headers["harmful"]["prompt_ids"]), "n_harmless": len(headers["harmless"]["prompt_ids"])}


STEP = Step("extract", 1, "directions", _run)


def directions(bench: Workbench, experiment: Experiment, lang: str, langs: tuple[str, ...] = ()) -> Artifact:
    """Difference-in-means candidates of one language's train prompts, collected first where needed."""
    inputs: dict[str, Artifact] = {
        kind: activation_step.activations(
            bench, experiment, prompt_step.prompts(bench, experiment, lang, kind, "train", langs)
        )
        for kind in KINDS
    }
    about = {
        "model": bench.ref.name,
        "revision": bench.ref.revision,
        "lang": lang,
        "data": experiment.data,
        "method": "difference-in-means",
    }
    about |= {f"n_{k}": a.about["n"] for k, a in inputs.items()}
    return bench.obtain(STEP, {"method": "difference-in-means"}, inputs, about)
