"""`select`: candidate directions to scores of every candidate, and the one that the rule chooses.

Scoring runs the model; choosing does not, so another rule or threshold costs no forward pass.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from refusalctl.errors import EmptySelection, UnfitOpenings
from refusalctl.stats.candidate_choice import CRITERIA, Candidate, CandidateScores, choose, stability
from refusalctl.stats.selection_rule import Rule
from refusalctl.steps.directions import DIRECTIONS_FILE, KINDS, extract_directions, n_layers, reliability_at
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.prompts import draw_prompts, read_prompts
from refusalctl.steps.selection import search
from refusalctl.steps.selection.candidates import candidates_of
from refusalctl.steps.selection.cosmic import (
    choose_by_cosine,
    cosines_beside_scores,
    least_alike,
    read_cosmic,
    score_by_cosine,
    winner_by_cosine,
    write_cosmic,
)
from refusalctl.steps.selection.openings import checked_openings, read_openings
from refusalctl.steps.selection.scorer import Criteria, Ledger, Scorer
from refusalctl.steps.step import Job, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch

SCORES_FILE = "scores.json"
STABILITY_SEED = 0
UNKNOWN: dict[str, Any] = {"resamples": 0, "winners": {}, "none": 0.0}  # nothing could be resampled


def _run_score(job: Job) -> dict[str, Any]:
    from refusalctl.model.hooks import Intervention

    tensors, header = formats.read_vectors(job.inputs["directions"].path / DIRECTIONS_FILE, "directions")
    vectors, positions = tensors["candidates"], header["positions"]
    opening = read_openings(job.inputs["openings"])
    scorer = Scorer(job.bench.model, [list(each) for each in opening.sequences], job.bench.machine.batch_size)
    encoded = {k: scorer.encode(job, read_prompts(job.inputs[f"val_{k}"])) for k in KINDS}
    full = job.params["search"] == "full"
    grid, flat = candidates_of(tensors, positions, job.params["max_layer_share"], job.params["layers"])
    layers = least_alike(tensors, len(positions) - 1) if full else []
    criteria = Criteria(scorer, *encoded.values(), layers=layers, n_directions=len(grid)) if full else None
    baseline: dict[str, torch.Tensor] = (
        criteria.baseline if criteria else {k: scorer.refusal(encoded[k], Intervention()) for k in KINDS}
    )
    kept = _keep(baseline, bool(job.params["filter_val"]))
    table = {
        "n_layers": vectors.shape[1],
        "positions": positions,
        "suffix_tokens": header["suffix_tokens"],
        "baseline": {k: v.tolist() for k, v in baseline.items()},
        "filter_val": bool(job.params["filter_val"]),
        "kept": kept,
        "flat": [list(c) for c in flat],
        "search": job.params["search"],
        "candidates": [],
    }
    at = {c: vectors[positions.index(c.pos), c.layer] for c in grid}
    savings: dict[str, Any] = {}
    # an emptied class is a finding that `choose` reports: there is nothing to score, but COSMIC takes all prompts
    if criteria:
        ledger = _searched(grid, criteria, at, job)
        table["candidates"] = [ledger.row(c, kept) for c in grid] if all(kept.values()) else []
        write_cosmic(job.out, layers, criteria.n, [ledger.cosines(c) for c in grid])
        savings = {"sweeps": criteria.sweeps.as_json(), "prompt_passes": criteria.passes}
    elif all(kept.values()):
        rows = ([encoded[kind][i] for i in kept[kind]] for kind in KINDS)
        criteria = Criteria(scorer, *rows, n_directions=len(grid))
        ledger = _searched(grid, criteria, at, job)
        everything = {kind: list(range(n)) for kind, n in criteria.n.items()}
        table["candidates"] = [ledger.row(c, everything) for c in grid]
        savings = {"sweeps": criteria.sweeps.as_json(), "prompt_passes": criteria.passes}
    formats.write_json(job.out / SCORES_FILE, "scores", table)
    complete = sum(is_complete(row) for row in table["candidates"])
    counts = {"kept": {k: len(v) for k, v in kept.items()}, "candidates": complete}
    return counts | scorer.checks.as_json() | savings


def _searched(grid: list[Candidate], criteria: Criteria, vectors: dict[Candidate, torch.Tensor], job: Job) -> Ledger:
    """Scores as far as the search asks for them."""
    with job.bench.progress.task(f"score {job.inputs['directions'].about['lang']}", len(grid)) as advance:
        ledger = Ledger(criteria, vectors, job.partial / "candidates.jsonl", advance)
        search.run(job.params["search"], ledger, grid, job.params.get("rule"))
    return ledger


def is_complete(row: dict[str, Any]) -> bool:
    """Whether a candidate has all three scores."""
    return all(row[name] is not None for name in CRITERIA)


def _keep(baseline: dict[str, torch.Tensor], wanted: bool) -> dict[str, list[int]]:
    """Indices of validation prompts that the model treats as their class says (Arditi et al. 2024, appendix B)."""
    good = {"harmful": baseline["harmful"] > 0, "harmless": baseline["harmless"] < 0}
    return {k: [i for i, ok in enumerate(good[k].tolist()) if ok or not wanted] for k in KINDS}


def _run_select(job: Job) -> dict[str, Any]:
    rule, criterion = Rule(**job.params["rule"]), job.params["criterion"]
    tensors, header = formats.read_vectors(job.inputs["directions"].path / DIRECTIONS_FILE, "directions")
    table, by_score = _by_score(job, rule, header)
    rows = read_cosmic(job.inputs["cosmic"])["candidates"] if _is_full(job) else []
    by_cosine = choose_by_cosine(rows, rule)
    winner = winner_by_cosine(rows, rule) if criterion == "cosmic" else by_score
    assert winner is not None  # by refusal scores, a choice that fails raises
    pos, layer = winner["pos"], winner["layer"]
    at = (header["positions"].index(pos), layer)
    vectors = {"direction": tensors["candidates"][at], "mean_harmless": tensors["mean_harmless"][at]}
    about = {"pos": pos, "layer": layer, "lang": job.inputs["directions"].about["lang"]}
    about |= {"suffix_tokens": header["suffix_tokens"], "criterion": criterion}
    reliable = reliability_at(job.inputs["directions"], pos, layer)
    chosen_by = {"rule": asdict(rule), "reliability": reliable, "criterion": criterion}
    chosen_by["choices"] = {"no_scores": job.params["no_scores"]} | _choices(
        tensors["candidates"], header["positions"], by_score, by_cosine
    )
    formats.write_json(job.out / SCORES_FILE, "scores", table | chosen_by)
    formats.write_vectors(job.out / SELECTION_FILE, "selection", vectors, about)
    share = table["stability"]["winners"].get(f"{pos},{layer}")  # None: not among the ten listed
    facts = {"winner_share": share, "reliability": reliable["full"], "noise_ceiling": reliable["ceiling"]}
    return facts | {"criterion": criterion, "cosine_of_choices": chosen_by["choices"]["cosine"]}


def _is_full(job: Job) -> bool:
    """Whether all candidates were scored. A shortened search leaves out what COSMIC would choose as well."""
    return "cosmic" in job.inputs


def _by_score(job: Job, rule: Rule, header: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The table of refusal scores with the stability of its choice, and the choice.

    Where the language has no refusal scores and the criterion needs none: an empty table, every score None.
    """
    if "scores" not in job.inputs:
        free = read_cosmic(job.inputs["cosmic"])
        empty = {k: list(range(free["n"][k])) for k in KINDS}
        rows = [{"pos": r["pos"], "layer": r["layer"], "bypass": None, "induce": None, "kl": r["kl"]}
                for r in free["candidates"]]  # fmt: skip
        return {
            "n_layers": job.params["n_layers"], "positions": header["positions"], "filter_val": False, "kept": empty,
            "suffix_tokens": header["suffix_tokens"], "baseline": {k: [] for k in KINDS}, "flat": [],
            "candidates": rows, "stability": UNKNOWN, "search": "full",
        }, None  # fmt: skip
    table = formats.read_json(job.inputs["scores"].path / SCORES_FILE, "scores")
    table = {k: v for k, v in table.items() if k not in ("format", "version")}
    try:
        _check_kept(table)
        scores = _as_scores(table)
        winner = scores.candidates[choose(scores, rule, table["n_layers"])]
    except EmptySelection:
        if job.params["criterion"] != "cosmic":
            raise
        return table | {"stability": UNKNOWN}, None
    row = next(r for r in table["candidates"] if (r["pos"], r["layer"]) == winner)
    if not _is_full(job):  # what was left out cannot win a resample either
        return table | {"stability": UNKNOWN}, row
    steady = stability(scores, rule, table["n_layers"], np.random.default_rng(STABILITY_SEED))
    return table | {"stability": steady._asdict()}, row


def _choices(
    candidates: torch.Tensor,
    positions: list[int],
    by_score: dict[str, Any] | None,
    by_cosine: dict[str, Any] | None,
) -> dict[str, Any]:
    """Both criteria's choices side by side, and the cosine of the two vectors; None where one chooses nothing."""
    import torch

    found: dict[str, Any] = {"refusal-score": None, "cosmic": by_cosine, "cosine": None}
    vectors = []
    if by_score is not None:
        found["refusal-score"] = {k: by_score[k] for k in ("pos", "layer", "bypass", "induce", "kl")}
        vectors.append(candidates[positions.index(by_score["pos"]), by_score["layer"]].double())
    if by_cosine is not None:
        vectors.append(candidates[positions.index(by_cosine["pos"]), by_cosine["layer"]].double())
    if len(vectors) == 2:
        found["cosine"] = round(float(torch.nn.functional.cosine_similarity(vectors[0], vectors[1], dim=0)), 6)
    return found


def _check_kept(table: dict[str, Any]) -> None:
    """Raise `EmptySelection` when the filter left a class without validation prompts."""
    for kind, sign, best in (("harmful", "> 0", max), ("harmless", "< 0", min)):
        if not table["kept"][kind]:
            scores = table["baseline"][kind]
            raise EmptySelection(
                f"none of {len(scores)} {kind} validation prompts has a baseline refusal score {sign} "
                f"(the best has {best(scores):.2f})",
                hint="the model does not tell the classes apart in this language; --no-filter-val keeps all prompts",
            )


def _as_scores(table: dict[str, Any]) -> CandidateScores:
    rows = [row for row in table["candidates"] if is_complete(row)]  # the others were found not to win
    columns = (np.array([row["per_prompt"][k] for row in rows]) for k in ("bypass", "induce", "kl"))
    return CandidateScores([Candidate(row["pos"], row["layer"]) for row in rows], *columns)


SCORE = Step("score", 4, "scores", _run_score, uses_model=True)
SELECT = Step("select", 5, "selection", _run_select)


def score_candidates(bench: Workbench, lang: str) -> Artifact:
    """Candidates' scores on the validation prompts; of a full search no rule but its layer limit enters here."""
    inputs = {
        "directions": extract_directions(bench, lang),
        "openings": checked_openings(bench, lang),
        **{f"val_{k}": draw_prompts(bench, lang, k, "val") for k in KINDS},
    }
    layers = sorted(bench.settings.selection.layers) if bench.settings.selection.layers is not None else None
    share = bench.settings.selection.resolved_rule().max_layer_share
    params: dict[str, Any] = {
        "filter_val": bench.settings.selection.filter_val,
        "layers": layers,
        "max_layer_share": share,
    }
    params["search"] = bench.settings.selection.search
    if bench.settings.selection.search != "full":
        params["rule"] = asdict(bench.settings.selection.resolved_rule())
    about = {"model": bench.ref.name, "lang": lang, "data": bench.settings.prompts.data}
    return bench.obtain(SCORE, params, inputs, about)


def select_direction(bench: Workbench, lang: str) -> Artifact:
    """The chosen direction of one language, by the criterion asked for, with what the other criterion would choose.

    Raises `EmptySelection` when nothing can be chosen honestly, `UnfitOpenings` when the refusal scores would mean
    nothing. The criterion `cosmic` needs no refusal scores and goes on without them, with a note.
    """
    rule = bench.settings.selection.resolved_rule()
    own = extract_directions(bench, lang)
    inputs, why = {"directions": own}, None
    try:
        inputs["scores"] = score_candidates(bench, lang)
    except (EmptySelection, UnfitOpenings) as error:
        if bench.settings.selection.criterion != "cosmic":
            raise
        why = str(error)
        bench.note(f"{lang}: chosen without refusal scores: {error.message}")
        inputs["cosmic"] = score_by_cosine(bench, lang)
    if why is None and bench.settings.selection.search == "full":
        inputs["cosmic"] = cosines_beside_scores(bench, inputs["scores"])
    about = {"model": bench.ref.name, "revision": bench.ref.revision, "lang": lang, "data": bench.settings.prompts.data}
    about |= {"rule": rule.name, "criterion": bench.settings.selection.criterion}
    params: dict[str, Any] = {"rule": asdict(rule), "criterion": bench.settings.selection.criterion, "no_scores": why}
    if why is not None:
        params["n_layers"] = n_layers(own)
    return bench.obtain(SELECT, params, inputs, about)


def read_scores(artifact: Artifact) -> dict[str, Any]:
    return formats.read_json(artifact.path / SCORES_FILE, "scores")


def chosen_candidate(artifact: Artifact) -> dict[str, Any]:
    """Position, layer and scores of the winner."""
    _tensors, header = formats.read_vectors(artifact.path / SELECTION_FILE, "selection")
    at = (header["pos"], header["layer"])
    scores = next(c for c in read_scores(artifact)["candidates"] if (c["pos"], c["layer"]) == at)
    return {"pos": at[0], "layer": at[1], **{k: scores[k] for k in ("bypass", "induce", "kl")}}
