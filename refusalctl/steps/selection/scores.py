"""`select`: candidate directions to scores of every candidate, and the one that the rule chooses.

Scoring runs the model; choosing does not, so another rule or threshold costs no forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from refusalctl.errors import EmptySelection, UnfitOpenings
from refusalctl.json_types import JsonObject
from refusalctl.progress import batches
from refusalctl.records.rows import Kind
from refusalctl.records.selection import (
    ByClass,
    Candidate,
    Choices,
    ChosenByScore,
    CosmicCandidate,
    ScoredCandidate,
    ScoreTable,
    SelectionScores,
    Stability,
    ValidationPrompts,
)
from refusalctl.records.transfer import ChosenDirection
from refusalctl.stats.candidate_choice import CRITERIA, CandidateScores, choose, stability
from refusalctl.stats.selection_rule import Rule
from refusalctl.steps import foresight
from refusalctl.steps.directions import (
    KINDS,
    DirectionsHeader,
    extract_directions,
    n_layers,
    read_directions,
    reliability_at,
)
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection import search
from refusalctl.steps.selection.candidates import candidates_of, grid_of
from refusalctl.steps.selection.cosmic import (
    choose_by_cosine,
    cosines_beside_scores,
    cosmic_table,
    least_alike,
    read_cosmic,
    score_by_cosine,
    winner_by_cosine,
)
from refusalctl.steps.selection.openings import checked_openings, read_openings
from refusalctl.steps.selection.scorer import Criteria, Ledger, Scorer
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch

STABILITY_SEED = 0
NOT_RESAMPLED = "there are no scores per prompt to resample"


def _run_score(job: Job) -> RunChecks:
    tensors, header = read_directions(job.inputs["directions"])
    vectors, positions, search = tensors["candidates"], header.positions, job.params["search"]
    opening = read_openings(job.inputs["openings"])
    scorer = Scorer(job.bench.model, [list(each) for each in opening.sequences], job.bench.machine.batch_size)
    encoded = {k: scorer.encode(job, read_prompts(job.inputs[f"val_{k}"])) for k in KINDS}
    grid, flat = candidates_of(tensors, positions, job.params["max_layer_share"], job.params["layers"])
    at = {c: vectors[positions.index(c.pos), c.layer] for c in grid}
    layers = least_alike(tensors, len(positions) - 1) if search == "full" else []
    found = _all_scored(job, scorer, encoded, at, layers) if search == "full" else _searched(job, scorer, encoded, at)
    table = ScoreTable(
        n_layers=vectors.shape[1],
        positions=tuple(positions),
        suffix_tokens=tuple(header.suffix_tokens),
        validation=found.validation,
        search=search,
        flat=tuple(flat),
        unscored=(),
        candidates=found.candidates,
        untold=None,
    )
    formats.write_record(job.out, table)
    counts = {"kept": {k: len(found.validation.kept.of(k)) for k in KINDS}, "candidates": len(table.complete)}
    return counts | scorer.checks.as_json() | found.savings


class _Scored(NamedTuple):
    """What one search found, and what its passes cost."""

    validation: ValidationPrompts
    candidates: tuple[ScoredCandidate, ...]
    savings: dict[str, object]


def _all_scored(
    job: Job,
    scorer: Scorer,
    encoded: dict[Kind, list[list[int]]],
    vectors: dict[Candidate, torch.Tensor],
    layers: list[int],
) -> _Scored:
    """Every candidate on every prompt, and COSMIC's table from the same passes."""
    criteria = Criteria(scorer, encoded["harmful"], encoded["harmless"], layers=layers, n_directions=len(vectors))
    validation = _validation({k: criteria.baseline[k] for k in KINDS}, bool(job.params["filter_val"]))
    ledger = _ledger(job, criteria, vectors)
    formats.write_record(job.out, cosmic_table(ledger, layers, list(vectors)))
    # an emptied class is a finding that `choose` reports: there is nothing to score, but COSMIC takes all prompts
    rows = tuple(ledger.row(c, validation.kept) for c in vectors) if _is_scorable(validation) else ()
    return _Scored(validation, rows, _savings(criteria))


def _searched(
    job: Job, scorer: Scorer, encoded: dict[Kind, list[list[int]]], vectors: dict[Candidate, torch.Tensor]
) -> _Scored:
    """Candidates on the prompts that are kept, as far as the search asks for them."""
    criteria = Criteria(scorer, encoded["harmful"], encoded["harmless"], n_directions=len(vectors), partly=True)
    validation = _validation({k: criteria.baseline[k] for k in KINDS}, bool(job.params["filter_val"]))
    if not _is_scorable(validation):
        return _Scored(validation, (), {})
    criteria.narrow(validation.kept)
    ledger = _ledger(job, criteria, vectors)
    everything = ByClass(**{kind: tuple(range(n)) for kind, n in criteria.n.items()})
    savings = _savings(criteria) | {"kl_at_least": ledger.least_kl()}
    return _Scored(validation, tuple(ledger.row(c, everything) for c in vectors), savings)


def _ledger(job: Job, criteria: Criteria, vectors: dict[Candidate, torch.Tensor]) -> Ledger:
    """Scores as far as the search asks for them."""
    rule = Rule(**job.params["rule"]) if "rule" in job.params else None
    with batches(job.bench.progress, f"score {job.inputs['directions'].about['lang']}", len(vectors)) as advance:
        ledger = Ledger(criteria, vectors, FinishedRows(job.partial, "candidates.jsonl"), advance)
        search.run(job.params["search"], ledger, list(vectors), rule)
    return ledger


def _savings(criteria: Criteria) -> dict[str, object]:
    return {"sweeps": criteria.sweeps.as_json(), "prompt_passes": criteria.passes}


def _validation(baseline: dict[Kind, torch.Tensor], wanted: bool) -> ValidationPrompts:
    """With the filter `wanted`, prompts that the model treats as their class says (Arditi et al. 2024, appendix B)."""
    scores = ByClass(**{k: tuple(baseline[k].tolist()) for k in KINDS})
    good = {"harmful": [x > 0 for x in scores.harmful], "harmless": [x < 0 for x in scores.harmless]}
    kept = ByClass(**{k: tuple(i for i, ok in enumerate(good[k]) if ok or not wanted) for k in KINDS})
    return ValidationPrompts(ByClass(len(scores.harmful), len(scores.harmless)), wanted, scores, kept)


def _is_scorable(validation: ValidationPrompts) -> bool:
    """Whether both classes have a prompt left."""
    return all(validation.kept.of(kind) for kind in KINDS)


class _ByScore(NamedTuple):
    """The table of refusal scores, the choice by them, and how steady it is or why nobody can tell."""

    table: ScoreTable
    winner: ScoredCandidate | None
    stability: Stability | None = None
    unsteady: str | None = None


def _run_select(job: Job) -> RunChecks:
    rule, criterion = Rule(**job.params["rule"]), job.params["criterion"]
    tensors, header = read_directions(job.inputs["directions"])
    by_score = _by_score(job, rule, header)
    rows = read_cosmic(job.inputs["cosmic"]).candidates if _is_full(job) else ()
    by_cosine = choose_by_cosine(rows, rule)
    winner = winner_by_cosine(rows, rule) if criterion == "cosmic" else by_score.winner
    assert winner is not None  # by refusal scores, a choice that fails raises
    pos, layer = winner.place
    at = (header.positions.index(pos), layer)
    vectors = {"direction": tensors["candidates"][at], "mean_harmless": tensors["mean_harmless"][at]}
    about = {"pos": pos, "layer": layer, "lang": job.inputs["directions"].about["lang"]}
    about |= {"suffix_tokens": header.suffix_tokens, "criterion": criterion}
    reliable = reliability_at(job.inputs["directions"], pos, layer)
    choices = _choices(tensors["candidates"], header.positions, by_score.winner, by_cosine)
    found = SelectionScores(
        **fields_of(by_score.table),
        criterion=criterion,
        rule=rule,
        stability=by_score.stability,
        unsteady=by_score.unsteady,
        reliability=reliable,
        choices=choices,
    )
    formats.write_record(job.out, found)
    formats.write_vectors(job.out / SELECTION_FILE, "selection", vectors, about)
    share = by_score.stability.share(winner.place) if by_score.stability else None
    facts = {"winner_share": share, "reliability": reliable.full, "noise_ceiling": reliable.ceiling}
    return facts | {"criterion": criterion, "cosine_of_choices": choices.cosine}


def fields_of(table: ScoreTable) -> dict[str, Any]:
    """What a selection takes over from the table that it is chosen from."""
    return msgspec.structs.asdict(table)


def _is_full(job: Job) -> bool:
    """Whether all candidates were scored. A shortened search leaves out what COSMIC would choose as well."""
    return "cosmic" in job.inputs


def _by_score(job: Job, rule: Rule, header: DirectionsHeader) -> _ByScore:
    """The choice by refusal scores; where the language has none and the criterion needs none, a table without them."""
    if "scores" not in job.inputs:
        return _ByScore(_without_scores(job, header), None, None, NOT_RESAMPLED)
    table = read_scores(job.inputs["scores"])
    try:
        _check_kept(table)
        scores = _as_scores(table)
        winner = table.at(scores.candidates[choose(scores, rule, table.n_layers)])
    except EmptySelection as error:
        if job.params["criterion"] != "cosmic":
            raise
        return _ByScore(table, None, None, f"refusal scores choose nothing here: {error.message}")
    if not _is_full(job):  # what was left out cannot win a resample either
        return _ByScore(table, winner, None, "a shortened search leaves out what could win a resample")
    return _ByScore(table, winner, stability(scores, rule, table.n_layers, np.random.default_rng(STABILITY_SEED)))


def _without_scores(job: Job, header: DirectionsHeader) -> ScoreTable:
    """A table whose candidates have a KL, from COSMIC, and no refusal scores."""
    free = read_cosmic(job.inputs["cosmic"])
    everything = ByClass(tuple(range(free.n.harmful)), tuple(range(free.n.harmless)))
    return ScoreTable(
        n_layers=job.params["n_layers"],
        positions=tuple(header.positions),
        suffix_tokens=tuple(header.suffix_tokens),
        validation=ValidationPrompts(free.n, False, None, everything),
        search="full",
        flat=None,
        unscored=(),
        candidates=tuple(ScoredCandidate(c.pos, c.layer, None, None, c.kl, None) for c in free.candidates),
        untold=job.params["no_scores"],
    )


def _choices(
    candidates: torch.Tensor,
    positions: list[int],
    by_score: ScoredCandidate | None,
    by_cosine: CosmicCandidate | None,
) -> Choices:
    """Both criteria's choices side by side, and the cosine of the two vectors."""
    import torch

    chosen = None
    if by_score is not None:
        chosen = ChosenByScore(*by_score.place, *by_score.means())
    if by_score is None or by_cosine is None:
        return Choices(chosen, by_cosine, None)
    a, b = (candidates[positions.index(each.pos), each.layer].double() for each in (by_score, by_cosine))
    return Choices(chosen, by_cosine, round(float(torch.nn.functional.cosine_similarity(a, b, dim=0)), 6))


def _check_kept(table: ScoreTable) -> None:
    """Raise `EmptySelection` when the filter left a class without validation prompts."""
    asked = table.validation
    if asked is None or asked.baseline is None:
        return
    asked_of: tuple[tuple[Kind, str, Callable[[Sequence[float]], float]], ...]
    asked_of = (("harmful", "> 0", max), ("harmless", "< 0", min))
    for kind, sign, best in asked_of:
        if not asked.kept.of(kind):
            scores = asked.baseline.of(kind)
            raise EmptySelection(
                f"none of {len(scores)} {kind} validation prompts has a baseline refusal score {sign} "
                f"(the best has {best(scores):.2f})",
                hint="the model does not tell the classes apart in this language; --no-filter-val keeps all prompts",
            )


def _as_scores(table: ScoreTable) -> CandidateScores:
    rows = [(c.place, c.per_prompt) for c in table.complete if c.per_prompt is not None]  # the others cannot win
    columns = (np.array([getattr(scores, name) for _place, scores in rows]) for name in CRITERIA)
    return CandidateScores([place for place, _scores in rows], *columns)


SCORE = Step("score", 6, "scores", _run_score, uses_model=True)
SELECT = Step("select", 6, "selection", _run_select)


def score_candidates(bench: Workbench, lang: str) -> Artifact:
    """Candidates' scores on the validation prompts; of a full search no rule but its layer limit enters here."""
    inputs = {
        "directions": extract_directions(bench, lang),
        "openings": checked_openings(bench, lang),
        **{f"val_{k}": draw_prompts(bench, lang, k, "val") for k in KINDS},
    }
    layers = sorted(bench.settings.selection.layers) if bench.settings.selection.layers is not None else None
    share = bench.settings.selection.resolved_rule().max_layer_share
    params: JsonObject = {
        "filter_val": bench.settings.selection.filter_val,
        "layers": layers,
        "max_layer_share": share,
    }
    params["search"] = bench.settings.selection.search
    if bench.settings.selection.search != "full":
        params["rule"] = bench.settings.selection.resolved_rule().params()
    about = {"model": bench.ref.name, "lang": lang, "data": bench.settings.prompts.data}
    return bench.obtain(SCORE, params, inputs, about)


def _foresee(bench: Workbench, lang: str) -> None:
    """Raise `BadInput` before the first pass for prompts, positions or layers that are not there."""
    foreseen, asked = bench.planning(), bench.settings.selection
    own = extract_directions(foreseen, lang)
    for kind in KINDS:
        draw_prompts(foreseen, lang, kind, "val")
    depth = foresight.n_layers(bench) if own.planned else n_layers(own)
    grid_of([-1], depth, asked.resolved_rule().max_layer_share, None if asked.layers is None else sorted(asked.layers))


def select_direction(bench: Workbench, lang: str) -> Artifact:
    """The chosen direction of one language, by the criterion asked for, with what the other criterion would choose.

    Raises `EmptySelection` when nothing can be chosen honestly, `UnfitOpenings` when given openings would make
    refusal scores mean nothing. The criterion `cosmic` needs no refusal scores and goes on without them, with a note.
    """
    rule = bench.settings.selection.resolved_rule()
    _foresee(bench, lang)
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
    params: JsonObject = {"rule": rule.params(), "criterion": bench.settings.selection.criterion, "no_scores": why}
    if why is not None:
        params["n_layers"] = n_layers(own)
    return bench.obtain(SELECT, params, inputs, about)


def read_scores(artifact: Artifact) -> ScoreTable:
    """The scores of every candidate, of a score table or of a selection from one."""
    return read_choice(artifact) if artifact.kind == "selection" else formats.read_record(artifact.path, ScoreTable)


def read_choice(artifact: Artifact) -> SelectionScores:
    return formats.read_record(artifact.path, SelectionScores)


def chosen_candidate(artifact: Artifact) -> ChosenDirection:
    """Position, layer and scores of the winner; no scores where it was published without."""
    _tensors, header = formats.read_vectors(artifact.path / SELECTION_FILE, "selection")
    place = Candidate(header["pos"], header["layer"])
    found = read_choice(artifact).at(place)
    scores = (found.bypass, found.induce, found.kl) if found else (None, None, None)
    return ChosenDirection(artifact.id, *place, *scores)
