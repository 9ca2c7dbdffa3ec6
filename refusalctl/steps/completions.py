"""`ablate`: prompts and one intervention to greedy completions, saved as they come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refusalctl.data.records import Completion, Prompt
from refusalctl.errors import BadInput
from refusalctl.steps import directions as direction_step
from refusalctl.steps import prompts as prompt_step
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch

    from refusalctl.model.hooks import Intervention

FILE = "completions.jsonl"
SELECTION_FILE = "selection.safetensors"
SUBSPACE_FILE = "subspace.safetensors"
CONTROLS_FILE = "control_directions.safetensors"


@dataclass(frozen=True)
class InterventionSpec:
    """An intervention as it is asked for: by the artifact that holds the direction.

    A `selection` carries its own position and layer, a `subspace` its basis; a `directions` artifact needs both named,
    `control_directions` a family and which of its draws.
    """

    kind: str = "none"
    direction: Artifact | None = None
    pos: int | None = None
    layer: int | None = None
    coeff: float = 1.0
    family: str | None = None
    draw: int | None = None

    def check(self, bench: Workbench) -> None:
        """Raise `BadInput` for a combination that cannot be meant."""
        if self.kind not in ("none", "ablate", "add", "subspace"):
            raise BadInput(f"there is no intervention {self.kind!r}", hint="choose none, ablate, add or subspace")
        if self.kind != "add" and self.coeff != 1.0:
            raise BadInput(f"a coefficient has no meaning for {self.kind!r}", hint="it belongs to --intervention add")
        if not math.isfinite(self.coeff):
            raise BadInput(f"the coefficient is {self.coeff}, expected a number")
        if self.kind == "none":
            if self.direction is not None:
                raise BadInput("the intervention 'none' takes no direction", hint="add --intervention ablate or add")
            return
        if self.direction is None:
            raise BadInput(f"the intervention {self.kind!r} needs a direction", hint="give --direction REF")
        if self.direction.kind not in ("selection", "directions", "subspace", "control_directions"):
            raise BadInput(f"{self.direction.label} holds no direction", hint="give a selection or directions id")
        if (self.direction.kind == "subspace") != (self.kind == "subspace"):
            raise BadInput(f"{self.direction.label} does not fit the intervention {self.kind!r}")
        is_control = self.direction.kind == "control_directions"
        if (self.family is not None) != is_control or (self.draw is not None) != is_control:
            raise BadInput(f"{self.direction.label}: control directions, and they alone, need a family and a draw")
        if is_control and self.kind != "ablate":
            raise BadInput(f"control directions are ablated, found {self.kind!r}")
        if self.direction.kind == "directions" and (self.pos is None or self.layer is None):
            raise BadInput(
                f"{self.direction.label} holds one candidate per position and layer", hint="name one: --pos and --layer"
            )
        if self.direction.kind == "selection" and (self.pos is not None or self.layer is not None):
            raise BadInput(f"{self.direction.label} has chosen its position and layer", hint="leave --pos, --layer out")
        theirs = (self.direction.about["model"], self.direction.about["revision"])
        if theirs != (bench.ref.name, bench.ref.revision):
            raise BadInput(
                f"{self.direction.label} was extracted from {' at '.join(theirs)}, "
                f"the model is {bench.ref.name} at {bench.ref.revision}",
                hint="use that model, or extract a direction from this one",
            )

    def params(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"kind": self.kind, "pos": self.pos, "layer": self.layer, "coeff": self.coeff}
        return asked if self.family is None else asked | {"family": self.family, "draw": self.draw}


def resolve_direction(spec: InterventionSpec) -> Intervention:
    """Read the vector. Raises `BadInput` for a position or layer that the artifact does not hold."""
    from refusalctl.model.hooks import Intervention

    if spec.direction is None:
        return Intervention()
    if spec.direction.kind == "subspace":
        tensors, header = formats.read_vectors(spec.direction.path / SUBSPACE_FILE, "subspace")
        return Intervention("subspace", tensors["basis"], header["layer"])
    if spec.direction.kind == "selection":
        tensors, header = formats.read_vectors(spec.direction.path / SELECTION_FILE, "selection")
        return Intervention(spec.kind, tensors["direction"], header["layer"], spec.coeff)  # type: ignore[arg-type]
    if spec.direction.kind == "control_directions":
        return Intervention("ablate", _control(spec, spec.direction))
    tensors, header = formats.read_vectors(spec.direction.path / direction_step.FILE, "directions")
    candidates = tensors["candidates"]
    if spec.pos not in header["positions"] or not 0 <= (spec.layer or 0) < candidates.shape[1]:
        raise BadInput(
            f"{spec.direction.label} holds no candidate at position {spec.pos}, layer {spec.layer}",
            hint=f"positions {header['positions']}, layers 0 to {candidates.shape[1] - 1}",
        )
    vector = candidates[header["positions"].index(spec.pos), spec.layer]
    return Intervention(spec.kind, vector, spec.layer, spec.coeff)  # type: ignore[arg-type]


def _control(spec: InterventionSpec, directions: Artifact) -> torch.Tensor:
    families, _header = formats.read_vectors(directions.path / CONTROLS_FILE, "control_directions")
    vectors = families.get(str(spec.family))
    if vectors is None or spec.draw is None or not 0 <= spec.draw < len(vectors):
        held = ", ".join(f"{name} ({len(v)})" for name, v in sorted(families.items()))
        raise BadInput(f"{directions.label} holds no draw {spec.draw} of {spec.family!r}", hint=f"it holds {held}")
    vector: torch.Tensor = vectors[spec.draw]
    return vector


def _run(job: Job) -> dict[str, Any]:
    rows = prompt_step.read(job.inputs["prompts"])
    spec = InterventionSpec(direction=job.inputs.get("direction"), **job.params["intervention"])
    kept = job.partial / FILE
    done = {row["prompt_id"] for row in formats.read_finished_rows(kept)}
    checks = _generate(job, rows, spec, done, kept)
    order = {row.id: i for i, row in enumerate(rows)}
    finished = sorted(formats.read_rows(kept), key=lambda row: order[row["prompt_id"]])
    formats.write_rows(job.out / FILE, finished)
    return {**checks, "resumed": len(done)}


def _generate(job: Job, rows: list[Prompt], spec: InterventionSpec, done: set[str], kept: Any) -> dict[str, Any]:
    from refusalctl.model.generate import complete

    model = job.bench.model
    about = job.inputs["prompts"].about
    label = f"{spec.kind if spec.kind != 'none' else 'baseline'} {about['lang']} {about['kind']}"
    encoded = [model.chat.encode(row.text) for row in rows]
    skip = frozenset(i for i, row in enumerate(rows) if row.id in done)
    fired, worst = 0, None
    with job.bench.progress.task(label, len(rows)) as advance:
        advance(len(skip))
        for indices, answers, checks in complete(
            model,
            encoded,
            resolve_direction(spec),
            max_new_tokens=job.params["max_new_tokens"],
            batch_size=job.bench.batch_size,
            done=skip,
        ):
            fresh = [
                Completion(
                    rows[i].id,
                    rows[i].lang,
                    rows[i].kind,
                    a.text,
                    len(a.ids),
                    a.truncated,
                    tuple(a.ids),
                    rows[i].cluster,
                ).to_json()
                for i, a in zip(indices, answers)
                if i not in skip
            ]
            formats.append_rows(kept, fresh)
            advance(len(fresh))
            fired += checks.fired
            worst = max((w for w in (worst, checks.max_projection) if w is not None), default=None)
    return {"hooks_fired": fired, "max_relative_projection": worst}


STEP = Step("ablate", 1, "completions", _run, uses_model=True)


def completions(bench: Workbench, prompts: Artifact, spec: InterventionSpec, max_new_tokens: int) -> Artifact:
    """Greedy answers of up to `max_new_tokens` tokens to every prompt under one intervention."""
    spec.check(bench)
    params = {"intervention": spec.params(), "max_new_tokens": max_new_tokens, "decoding": "greedy"}
    inputs = {"prompts": prompts} | ({"direction": spec.direction} if spec.direction else {})
    about = {"model": bench.ref.name, **prompts.about, "intervention": spec.kind}
    if spec.direction is not None:
        about["direction_lang"] = spec.direction.about["lang"]
    return bench.obtain(STEP, params, inputs, about)


def read(artifact: Artifact) -> list[Completion]:
    return [Completion.from_json(row, FILE) for row in formats.read_rows(artifact.path / FILE)]
