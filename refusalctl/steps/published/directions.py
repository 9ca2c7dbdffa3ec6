"""Published candidate directions, their scores and the chosen one, as `directions`, `scores` and `selection`.

Published scores are means, so how steady a choice is cannot be told, and says so; another rule can be applied to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from refusalctl.data.published_scores import PublishedScores, read_place, read_scores
from refusalctl.errors import DataError, EmptySelection
from refusalctl.json_types import JsonObject
from refusalctl.model.files import published_tensors
from refusalctl.records.selection import Candidate, ScoreTable, SelectionScores
from refusalctl.stats.candidate_choice import CRITERIA, CandidateScores, choose
from refusalctl.stats.selection_rule import Rule
from refusalctl.steps.directions import DIRECTIONS_FILE
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.published.request import VERSION, Request
from refusalctl.steps.selection.scores import NOT_RESAMPLED, fields_of
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.hashing import file_digest
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch

UNTOLD = "published scores are means: their prompts, baselines, search and train activations are not told"

SCORES_VERSION = 2


@dataclass(frozen=True)
class PublishedDirection:
    """A published direction with its place; `sha256` of the two files."""

    vector: torch.Tensor
    place: Candidate
    files: dict[str, str]


@dataclass(frozen=True)
class PublishedDirections:
    """What was found and read of one run's directions. `points`, `n_layers`: where a file tells or withholds them."""

    first: Path
    candidates: torch.Tensor | None = None
    scored: PublishedScores | None = None
    chosen: list[PublishedDirection] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    points: str | None = None
    n_layers: int | None = None


def find_directions(files: Sequence[Path], reselect: bool) -> PublishedDirections | None:
    """Read every `.pt` and its JSON companions. Raises `DataError` when one is malformed or lacks its companion."""
    means = _one([p for p in files if p.name == "mean_diffs.pt"])
    scores = [p for p in files if p.stem.startswith("direction_evaluations") and "filtered" not in p.stem]
    scores_file = _one([p for p in scores if "addition" not in p.stem] or scores)
    vectors = [p for p in files if p.suffix == ".pt" and p.name != "mean_diffs.pt"]
    places = [p for p in files if p.stem.startswith("direction_metadata")]
    if means is None and scores_file is None and not vectors:
        return None
    candidates = published_tensors.candidates(means) if means else None
    scored = read_scores(scores_file) if scores_file else None
    if candidates is not None and scored is not None:
        _check_fit(candidates, scored, str(scores_file.name if scores_file else ""))
    if reselect and (candidates is None or scored is None):
        raise DataError("choosing again needs mean_diffs.pt and direction_evaluations*.json", hint="give both")
    chosen = [_chosen(p, places) for p in vectors]
    used = [p for p in (means, scores_file) if p is not None]
    return PublishedDirections((used or vectors)[0], candidates, scored, chosen, {p.name: file_digest(p) for p in used})


def _one(files: Sequence[Path]) -> Path | None:
    if len(files) > 1:
        raise DataError(
            f"{len(files)} files are called {files[0].name} or alike ({', '.join(str(p) for p in files[:3])})",
            hint="import one run at a time",
        )
    return files[0] if files else None


def _check_fit(candidates: torch.Tensor, scored: PublishedScores, name: str) -> None:
    n_pos, n_layers = candidates.shape[:2]
    for pos, layer in [*(c.place for c in scored.candidates), *scored.unscored]:
        if not (-n_pos <= pos < 0 and 0 <= layer < n_layers):
            raise DataError(
                f"{name} scores position {pos}, layer {layer}; mean_diffs.pt has positions {-n_pos} to -1 "
                f"and layers 0 to {n_layers - 1}",
                hint="the files belong to different runs",
            )


def _chosen(path: Path, places: Sequence[Path]) -> PublishedDirection:
    """The vector of one `direction*.pt` and the place that its metadata file names."""
    vector = published_tensors.direction(path)
    suffix = path.stem.removeprefix("direction")
    fitting = [p for p in places if p.stem == f"direction_metadata{suffix}"] or list(places)
    if len(fitting) != 1:
        raise DataError(
            f"{path.name}: {len(fitting)} files tell its position and layer", hint="give direction_metadata*.json too"
        )
    return PublishedDirection(vector, read_place(fitting[0]), {p.name: file_digest(p) for p in (path, fitting[0])})


def import_directions(bench: Workbench, found: PublishedDirections, request: Request) -> list[Artifact]:
    """Artifacts in order of dependence. Raises `EmptySelection` when no candidate passes the rule asked for."""
    known = {
        "model": request.model,
        "revision": request.revision,
        "lang": request.needed_lang(found.first),
        "source": request.source,
    }
    params: JsonObject = {"files": found.files, **known}
    about = {**known, "data": "imported", "provenance": "imported"}
    about |= {"points": found.points} if found.points is not None else {}
    rule = request.rule
    inputs: dict[str, Artifact] = {}
    picked = _choose(found, rule) if rule is not None else None
    if found.candidates is not None:
        made = {**about, "method": "difference-in-means"}
        inputs["directions"] = bench.obtain(_directions_step(found.candidates), params, {}, made)
    if found.scored is not None:
        if found.scored.unscored:
            total = len(found.scored.candidates) + len(found.scored.unscored)
            bench.note(f"{len(found.scored.unscored)} of {total} published candidates have NaN scores and are left out")
        table = _table(found)
        inputs["scores"] = bench.obtain(_scores_step(table), params, {}, about)
    results = list(inputs.values())
    for chosen in found.chosen:
        _compare(bench, found, chosen)
        step = _selection_step(found, chosen.vector, chosen.place, known["lang"], None)
        asked = params | {"files": chosen.files}
        results.append(bench.obtain(step, asked, inputs, about | {"rule": "published"}))
    if picked is not None and rule is not None and found.candidates is not None:
        vector = found.candidates[picked.pos, picked.layer]
        step = _selection_step(found, vector, picked, known["lang"], rule)
        results.append(bench.obtain(step, params | {"rule": rule.params()}, inputs, about | {"rule": rule.name}))
    return results


def _compare(bench: Workbench, found: PublishedDirections, chosen: PublishedDirection) -> None:
    """Say so when a published direction is not the candidate that its metadata names (a fork copied one language's)."""
    import torch

    if found.candidates is None:
        return
    pos, layer = chosen.place
    n_pos, n_layers = found.candidates.shape[:2]
    inside = -n_pos <= pos < n_pos and layer < n_layers
    if not inside or not torch.allclose(found.candidates[pos, layer], chosen.vector, rtol=1e-3, atol=1e-5):
        bench.note(
            f"{next(iter(chosen.files))} is not the candidate at position {pos}, layer {layer} of mean_diffs.pt: "
            "it comes from another run, or from another language"
        )


def _choose(found: PublishedDirections, rule: Rule) -> Candidate:
    if found.scored is None or found.candidates is None:
        raise EmptySelection("there are no published scores to choose by")
    rows = found.scored.candidates
    columns = [np.array([[getattr(row, k)] for row in rows]) for k in CRITERIA]
    places = [row.place for row in rows]
    return places[choose(CandidateScores(places, *columns), rule, found.candidates.shape[1])]


def _table(found: PublishedDirections) -> ScoreTable:
    """Scores without what published runs do not tell."""
    scored = found.scored or PublishedScores([], [])
    places = [*(c.place for c in scored.candidates), *scored.unscored]
    n_pos = found.candidates.shape[0] if found.candidates is not None else -min((p for p, _ in places), default=0)
    told = found.n_layers or max((n for _, n in places), default=0) + 1
    n_layers = found.candidates.shape[1] if found.candidates is not None else told
    return ScoreTable(
        n_layers=n_layers,
        positions=tuple(range(-n_pos, 0)),
        suffix_tokens=None,
        validation=None,
        search=None,
        flat=None,
        unscored=tuple(scored.unscored),
        candidates=tuple(scored.candidates),
        untold=UNTOLD,
    )


def _directions_step(candidates: torch.Tensor) -> Step:
    def run(job: Job) -> RunChecks:
        import torch

        n_pos, n_layers, _ = candidates.shape
        untold = torch.full((n_pos, n_layers), float("nan"))
        header: JsonObject = {"positions": list(range(-n_pos, 0)), "suffix_tokens": [], "splits": 0}
        tensors = {"candidates": candidates, "split_half": untold}
        formats.write_vectors(job.out / DIRECTIONS_FILE, "directions", tensors, header)
        return {"shape": list(candidates.shape)}

    return Step("import-directions", VERSION, "directions", run)


def _scores_step(table: ScoreTable) -> Step:
    def run(job: Job) -> RunChecks:
        formats.write_record(job.out, table)
        return {"candidates": len(table.candidates)}

    return Step("import-scores", SCORES_VERSION, "scores", run)


def _selection_step(
    found: PublishedDirections, vector: torch.Tensor, place: Candidate, lang: str, rule: Rule | None
) -> Step:
    def run(job: Job) -> RunChecks:
        header: JsonObject = {"pos": place.pos, "layer": place.layer, "lang": lang, "suffix_tokens": []}
        formats.write_vectors(job.out / SELECTION_FILE, "selection", {"direction": vector}, header)
        scores = SelectionScores(
            **fields_of(_table(found)),
            criterion="refusal-score" if rule else "published",
            rule=rule,
            stability=None,
            unsteady=NOT_RESAMPLED,
            reliability=None,
            choices=None,
        )
        formats.write_record(job.out, scores)
        return {"pos": place.pos, "layer": place.layer}

    return Step("import-selection", SCORES_VERSION, "selection", run)
