"""`control-directions`: directions that should do nothing, through the same selection and on the same prompts.

They belong to a source language and are chosen once; what they do in a target is measured in `control_effects`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from refusalctl.errors import EmptySelection, UnfitOpenings
from refusalctl.json_types import JsonObject
from refusalctl.records.selection import Candidate
from refusalctl.settings import Settings
from refusalctl.stats import candidate_choice
from refusalctl.stats.selection_rule import Rule, layer_limit
from refusalctl.steps.activations import ACTIVATIONS_FILE, collect_activations
from refusalctl.steps.directions import DIRECTIONS_FILE, KINDS, extract_directions
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.interventions import CONTROLS_FILE as VECTORS
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.openings import checked_openings, read_openings
from refusalctl.steps.selection.scorer import Criteria, Scorer, mean
from refusalctl.steps.selection.scores import read_choice, select_direction
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch


SUBSPACES = "subspaces"  # beside the families of single directions: [n, rank, d_model], where several are ablated


class Site(NamedTuple):
    """A candidate's place with the train activations that its difference-in-means came from."""

    pos: int
    layer: int
    rows: torch.Tensor  # [n_harmful + n_harmless, d_model], harmful first
    real: torch.Tensor  # [d_model]


class Picked(NamedTuple):
    """The shuffled candidate that selection chose. `passed`: it met the rule; else it only scored best."""

    site: int
    passed: bool
    passes: int  # prompts run


# --- control directions of a source ------------------------------------------------------------------------


def spread(candidates: list[Candidate], winner: tuple[int, int], most: int) -> list[Candidate]:
    """At most `most` candidates (0: all), evenly spread in their order, the winner among them."""
    if not most or len(candidates) <= most:
        return candidates
    spread = {int(i) for i in np.linspace(0, len(candidates) - 1, most - 1).round()}
    return [c for i, c in enumerate(candidates) if i in spread or c == winner]


def pick_shuffled(
    n_sites: int,
    bypass: Callable[[int], float | None],
    induce: Callable[[int], float],
    kl: Callable[[int], float],
    rule: Rule,
) -> tuple[int, bool]:
    """What the rule chooses, and True. Where none passes, the lowest bypass score wins all the same, and False:

    a null must not lose for want of a candidate.
    """
    found = candidate_choice.pick(n_sites, bypass, induce, kl, rule)
    if found is None:
        raise EmptySelection("a shuffled labelling leaves no direction at any candidate position and layer")
    return found


def _sites(job: Job, winner: tuple[int, int], rule: Rule) -> tuple[list[Site], int]:
    """Activations at every searched candidate, and how many candidates the real selection had."""
    import torch

    tensors, header = formats.read_vectors(job.inputs["directions"].path / DIRECTIONS_FILE, "directions")
    table = read_choice(job.inputs["selection"])
    limit = layer_limit(rule.max_layer_share, table.n_layers)
    candidates = [c.place for c in table.candidates if c.layer < limit]
    sites = []
    for pos, layer in spread(candidates, winner, job.params["max_candidates"]):
        column = header["positions"].index(pos)
        rows = []
        for kind in KINDS:
            with formats.open_activations(job.inputs[kind].path / ACTIVATIONS_FILE) as (data, _header):
                rows.append(torch.from_numpy(data[:, column, layer]))
        sites.append(Site(pos, layer, torch.cat(rows), tensors["candidates"][column, layer]))
    return sites, len(candidates)


class _Search:
    """Selection among shuffled candidates on the source's validation prompts."""

    def __init__(self, job: Job, rule: Rule) -> None:
        opening = read_openings(job.inputs["openings"])
        scorer = Scorer(job.bench.model, [list(each) for each in opening.sequences], job.bench.machine.batch_size)
        self.rule = rule
        validation = read_choice(job.inputs["selection"]).validation
        assert validation is not None  # chosen here: `select_direction`
        encoded: dict[str, list[list[int]]] = {}
        for kind in KINDS:
            rows = read_prompts(job.inputs[f"val_{kind}"])
            chosen = validation.kept.of(kind)[: job.params["n_prompts"]]
            encoded[kind] = scorer.encode(job, [rows[i] for i in chosen])
        self.criteria = Criteria(scorer, encoded["harmful"], encoded["harmless"])
        self.first = self.criteria.passes

    def pick(self, sites: list[Site], vectors: list[torch.Tensor]) -> Picked:
        before = self.criteria.passes

        def asked(name: str, site: int) -> float:
            return mean(getattr(self.criteria, name)(vectors[site], sites[site].layer)[name])

        def bypass(site: int) -> float | None:
            return None if bool(vectors[site].isnan().any()) else asked("bypass", site)

        found, passed = pick_shuffled(len(sites), bypass, partial(asked, "induce"), partial(asked, "kl"), self.rule)
        return Picked(found, passed, self.criteria.passes - before)


def _run_directions(job: Job) -> RunChecks:
    import torch

    from refusalctl.stats import controls as stats

    rule, n = Rule(**job.params["rule"]), job.params["n"]
    generator = torch.Generator().manual_seed(job.params["seed"])
    tensors, header = formats.read_vectors(job.inputs["selection"].path / SELECTION_FILE, "selection")
    direction, winner = tensors["direction"], (header["pos"], header["layer"])
    sites, n_candidates = _sites(job, winner, rule)
    home = next(s for s in sites if (s.pos, s.layer) == winner)
    n_harmful = job.inputs["directions"].about["n_harmful"]
    harmless, length = home.rows[n_harmful:], float(direction.norm())
    families = {
        "covariance": stats.covariance_matched(harmless, length, n, generator),
        "isotropic": stats.isotropic(len(direction), length, stats.LEAST, generator),
    }
    rank = job.params["rank"]
    if rank > 1:
        families[SUBSPACES] = stats.subspaces(harmless, rank, n, generator)
    labels = stats.shuffles(n_harmful, len(harmless), n, generator)
    at_sites = [stats.shuffled_differences(s.rows, labels, s.real) for s in sites]
    chosen, passes = _pick_all(job, rule, sites, [vectors for vectors, _cosine in at_sites])
    families["shuffled"] = torch.stack([at_sites[row["site"]][0][i] for i, row in enumerate(chosen)])
    other = _language_differences(job, winner, length)
    if other:
        families["language"] = torch.stack([vector for _lang, vector in other])
    about = {
        "lang": job.inputs["directions"].about["lang"],
        "searched": len(sites),
        "candidates": n_candidates,
        "passed_rule": sum(row["passed"] for row in chosen),
        "chosen": [[sites[row["site"]].pos, sites[row["site"]].layer] for row in chosen],
        "plain_cosine": [round(float(at_sites[row["site"]][1][i]), 6) for i, row in enumerate(chosen)],
        "languages": [lang for lang, _vector in other],
        "rank": rank,
        "prompt_passes": passes,
    }
    formats.write_vectors(job.out / VECTORS, "control_directions", families, about)
    return {"prompt_passes": passes, "passed_rule": about["passed_rule"], "searched": len(sites)}


def _pick_all(job: Job, rule: Rule, sites: list[Site], vectors: list[torch.Tensor]) -> tuple[list[dict[str, Any]], int]:
    """One choice per shuffle, and the prompts run for them. Finished ones outlive an interruption."""
    rows = FinishedRows(job.partial, "picked.jsonl")
    search = _Search(job, rule)
    n = vectors[0].shape[0]
    with job.bench.progress.task(f"select among shuffled {job.inputs['directions'].about['lang']}", n) as advance:
        advance(len(rows))
        for i in range(len(rows), n):
            rows.add(search.pick(sites, [v[i] for v in vectors])._asdict())
            advance()
    return list(rows), search.first + sum(row["passes"] for row in rows)


def _language_differences(job: Job, winner: tuple[int, int], length: float) -> list[tuple[str, torch.Tensor]]:
    """Mean harmless stream of another language minus the source's at the selected place, at the direction's length."""
    tensors, header = formats.read_vectors(job.inputs["directions"].path / DIRECTIONS_FILE, "directions")
    at = (header["positions"].index(winner[0]), winner[1])
    own = tensors["mean_harmless"][at]
    found = []
    for name, artifact in job.inputs.items():
        role, _, lang = name.partition(":")
        if role == "language":
            theirs, _header = formats.read_vectors(artifact.path / DIRECTIONS_FILE, "directions")
            difference = theirs["mean_harmless"][at] - own
            if bool(difference.norm() > 1e-6 * own.norm()):
                found.append((lang, difference / difference.norm() * length))
    return found


DIRECTIONS = Step("control-directions", 5, "control_directions", _run_directions, uses_model=True)


def n_controls(settings: Settings) -> int:
    """Draws per family: as given, or 39, whatever the number of cells."""
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
    own = extract_directions(bench, source)
    inputs = {
        "selection": chosen,
        "directions": own,
        "openings": openings_to_compare_by(bench, source),
        **{f"val_{k}": draw_prompts(bench, source, k, "val") for k in KINDS},
    }
    for kind in KINDS:
        drawn = draw_prompts(bench, source, kind, "train")
        inputs[kind] = collect_activations(bench, drawn)
    for lang in bench.settings.langs:
        if lang != source:
            inputs[f"language:{lang}"] = extract_directions(bench, lang)
    params: JsonObject = {
        "n": n_controls(bench.settings),
        "seed": bench.settings.prompts.seed,
        "n_prompts": bench.settings.controls.control_prompts,
        "max_candidates": bench.settings.controls.control_candidates,
        "rule": bench.settings.selection.resolved_rule().params(),
        "rank": bench.settings.verdict.rank,
    }
    about: JsonObject = {
        "model": bench.ref.name,
        "revision": bench.ref.revision,
        "lang": source,
        "data": bench.settings.prompts.data,
    }
    about["n"] = params["n"]
    return bench.obtain(DIRECTIONS, params, inputs, about)
