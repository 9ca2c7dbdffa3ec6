"""Computing damaged and lost artifacts again, from the recipes that their manifests, or copies of these, hold.

What was damaged stays until the same artifact, computed again, takes its place by one rename; a result with another id
is kept beside it and told of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from refusalctl.errors import RefusalctlError
from refusalctl.steps.activations import COLLECT
from refusalctl.steps.comparison import COMPARE
from refusalctl.steps.completions import COMPLETE
from refusalctl.steps.comprehension import COMPREHENSION
from refusalctl.steps.costs.benchmark import LM_EVAL
from refusalctl.steps.costs.drift import DRIFT
from refusalctl.steps.costs.losses import LOSSES
from refusalctl.steps.costs.panel import COST
from refusalctl.steps.directions import EXTRACT
from refusalctl.steps.geometry import GEOMETRY
from refusalctl.steps.labelling.correction import CORRECT
from refusalctl.steps.labelling.labels import JUDGE
from refusalctl.steps.labelling.panel import PANEL
from refusalctl.steps.prompts import DRAW
from refusalctl.steps.selection.control_effects import CONTROLS
from refusalctl.steps.selection.controls import DRAW_CONTROLS
from refusalctl.steps.selection.cosmic import BESIDE, COSMIC
from refusalctl.steps.selection.openings import OPENINGS
from refusalctl.steps.selection.scores import SCORE, SELECT
from refusalctl.steps.step import Step, Workbench
from refusalctl.steps.subspace import SUBSPACE
from refusalctl.steps.transfer import TRANSFER
from refusalctl.store import marks
from refusalctl.store.artifact import Artifact, Problem
from refusalctl.store.damage import PAYLOAD, Damage
from refusalctl.store.hashing import digest, short
from refusalctl.store.store import Store

# steps that need nothing but their recipe, their inputs, the model and the judge: others are asked for by a command
REPEATABLE = (
    DRAW, COLLECT, EXTRACT, OPENINGS, SCORE, SELECT, COSMIC, BESIDE, SUBSPACE, DRAW_CONTROLS, CONTROLS, COMPLETE,
    COMPREHENSION, JUDGE, GEOMETRY, PANEL, CORRECT, TRANSFER, COMPARE, DRIFT,
    LOSSES, LM_EVAL, COST,
)  # fmt: skip


class Recomputation(NamedTuple):
    """An artifact to compute again, by its manifest; `obstacle`: why that cannot be, None where it can."""

    kind: str
    id: str
    manifest: Mapping[str, Any]
    obstacle: str | None = None

    @property
    def label(self) -> str:
        return f"{self.kind}/{short(self.id)}"


class Recomputed(NamedTuple):
    """What came of it: the artifact, whose id may be another, or what went wrong."""

    asked: Recomputation
    artifact: Artifact | None
    problem: str | None


def plan_recomputation(
    store: Store, problems: Sequence[Problem], more: Sequence[Step] = ()
) -> tuple[list[Recomputation], list[str]]:
    """What would be computed again, inputs first, and ids of which no recipe is known. `more`: further steps that can
    be repeated."""
    steps = {step.name: step for step in (*REPEATABLE, *more)}
    damaged = {
        p.artifact for p in problems if p.artifact and (p.damage in PAYLOAD or p.damage is Damage.MISSING_ARTIFACT)
    }
    found, unknown = dict[str, Recomputation](), list[str]()
    for kind, identifier in sorted(damaged):
        manifest = _manifest(store, kind, identifier)
        if manifest is None:
            unknown.append(f"{kind}/{short(identifier)}")
        else:
            found[identifier] = Recomputation(kind, identifier, manifest, _obstacle(manifest, steps))
    return list(_inputs_first(found)), unknown


def _manifest(store: Store, kind: str, identifier: str) -> Mapping[str, Any] | None:
    try:
        return store.open(kind, identifier).manifest
    except RefusalctlError:
        copies = (mark.manifest for mark in marks.looked_for(store.root, identifier))
        return next((copy for copy in copies if copy is not None), None)


def _obstacle(manifest: Mapping[str, Any], steps: Mapping[str, Step]) -> str | None:
    asked, version = str(manifest["recipe"].get("step")), manifest["recipe"].get("version")
    if asked not in steps:
        return f"its step, {asked!r}, needs more than its recipe: run the command that made it"
    if steps[asked].version != version:
        return f"version {version} of its step made it, this refusalctl has version {steps[asked].version}"
    return None


def _inputs_first(found: Mapping[str, Recomputation]) -> Iterator[Recomputation]:
    done: set[str] = set()

    def visit(each: Recomputation) -> Iterator[Recomputation]:
        if each.id in done:
            return
        done.add(each.id)
        for identifier in each.manifest["recipe"]["inputs"].values():
            if identifier in found:
                yield from visit(found[identifier])
        yield each

    for each in found.values():
        yield from visit(each)


def recompute(bench: Workbench, asked: Recomputation, more: Sequence[Step] = ()) -> Recomputed:
    """Compute one artifact again. What is known to go wrong is told, so that the others go on."""
    if asked.obstacle is not None:
        return Recomputed(asked, None, asked.obstacle)
    recipe = asked.manifest["recipe"]
    step = next(each for each in (*REPEATABLE, *more) if each.name == recipe["step"])
    try:
        inputs = _inputs(bench.store, recipe["inputs"])
        fitting = _fitting(bench, step, recipe, inputs)
        if step is JUDGE:
            _open_judge(fitting, recipe["params"])
        made = fitting.again(step, recipe["params"], inputs, asked.manifest["about"])
    except RefusalctlError as error:
        return Recomputed(asked, None, str(error))
    if made.id != asked.id:
        return Recomputed(asked, made, f"the recipe gave another result now, {made.label}: the damaged one stays")
    return Recomputed(asked, made, None)


def _inputs(store: Store, wanted: Mapping[str, str]) -> dict[str, Artifact]:
    kinds = {identifier: kind for kind, identifier in store.ids()}
    missing = [short(identifier) for identifier in wanted.values() if identifier not in kinds]
    if missing:
        raise RefusalctlError(f"it was made from {', '.join(missing)}, which is not in the store")
    return {role: store.open(kinds[identifier], identifier) for role, identifier in wanted.items()}


def _fitting(bench: Workbench, step: Step, recipe: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> Workbench:
    """The workbench with the model that the recipe names. Raises `RefusalctlError` where it gives another recipe."""
    wanted = digest(recipe)
    if not step.uses_model:
        return bench
    model = recipe["model"]
    asked = bench.machine.changed(dtype=model["dtype"], attention=model["attention"], system=model["system"])
    specs = dict.fromkeys((asked.model, model["name"], f"{model['name']}@{model['revision']}"))
    for spec in specs:
        for thinking in dict.fromkeys((asked.thinking, "auto", "on", "off")):
            machine = asked.changed(model=spec, thinking=thinking, trust_remote_code=model["trust_remote_code"])
            trial = replace(bench, machine=machine)
            try:
                if digest(trial.recipe(step, recipe["params"], inputs)) == wanted:
                    return trial
            except RefusalctlError:  # no such model here
                break
    raise RefusalctlError(
        f"no model here is {model['name']} at revision {str(model['revision'])[:12]} with its template",
        hint="name it with --model, and --chat-template where it had another",
    )


def _open_judge(bench: Workbench, params: Mapping[str, Any]) -> None:
    if params["judge_digest"] not in bench.judges:
        opened = bench.judge(params["judge"])
        if opened.digest != params["judge_digest"]:
            raise RefusalctlError(
                f"the judge {params['judge']!r} is another now than the one that gave these labels",
                hint="judge the completions again with `refusalctl judge`",
            )
