"""`cosmic`: a choice of direction that needs no refusal tokens, beside the one by refusal scores.

COSMIC (Siu et al. 2025, arXiv 2506.00085, section 3, and the authors' code): a direction is good if ablating it makes
harmful prompts look like harmless ones inside the model, and adding it makes harmless ones look like harmful ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refusalctl.errors import EmptySelection
from refusalctl.progress import batches
from refusalctl.records.selection import ByClass, Candidate, CosmicCandidate, CosmicTable
from refusalctl.stats.selection_rule import Rule
from refusalctl.steps.directions import DIRECTIONS_FILE, KINDS, extract_directions
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection import search
from refusalctl.steps.selection.candidates import candidates_of
from refusalctl.steps.selection.scorer import Criteria, Ledger, Scorer
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch

SHARE = 0.1  # of the layers: those where the classes' means are least alike


def choose_by_cosine(rows: Sequence[CosmicCandidate], rule: Rule) -> CosmicCandidate | None:
    """The row with the highest sum of both cosines (the first of equals) whose KL passes, or None."""
    return max((row for row in rows if rule.keeps(row.kl)), key=lambda row: row.score, default=None)


def least_alike(tensors: dict[str, torch.Tensor], column: int) -> list[int]:
    """The tenth of the layers, at least one, whose class means are least alike (cosine) at a position; not layer 0."""
    import torch

    a, b = (tensors[f"mean_{k}"][column].double() for k in KINDS)
    likeness = torch.nn.functional.cosine_similarity(a, b, dim=-1)[1:]
    n = max(1, int(SHARE * a.shape[0]))
    return sorted(int(i) + 1 for i in likeness.argsort()[:n])


def cosmic_table(ledger: Ledger, layers: list[int], grid: list[Candidate]) -> CosmicTable:
    """Both cosines of every candidate, which was scored on everything."""
    return CosmicTable(tuple(layers), ByClass(**ledger.criteria.n), tuple(ledger.cosines(c) for c in grid))


def _run(job: Job) -> RunChecks:
    """Without refusal openings: what `score` measures beside refusal scores."""
    tensors, header = formats.read_vectors(job.inputs["directions"].path / DIRECTIONS_FILE, "directions")
    positions = header["positions"]
    grid, _flat = candidates_of(tensors, positions, job.params["max_layer_share"], job.params["layers"])
    layers = least_alike(tensors, len(positions) - 1)
    scorer = Scorer(job.bench.model, [], job.bench.machine.batch_size)
    encoded = [scorer.encode(job, read_prompts(job.inputs[f"val_{k}"])) for k in KINDS]
    criteria = Criteria(scorer, *encoded, layers=layers, n_directions=len(grid))
    vectors = {c: tensors["candidates"][positions.index(c.pos), c.layer] for c in grid}
    with batches(job.bench.progress, f"cosmic {job.inputs['directions'].about['lang']}", len(grid)) as advance:
        ledger = Ledger(criteria, vectors, FinishedRows(job.partial, "cosmic.jsonl"), advance)
        search.full(ledger, grid)
    formats.write_record(job.out, cosmic_table(ledger, layers, grid))
    return {"layers": layers} | scorer.checks.as_json() | {"sweeps": criteria.sweeps.as_json()}


def _copy(job: Job) -> RunChecks:
    table = read_cosmic(job.inputs["scores"])
    formats.write_record(job.out, table)
    return {"layers": table.layers}


COSMIC = Step("cosmic", 4, "cosmic", _run, uses_model=True)
BESIDE = Step("cosmic-beside", 2, "cosmic", _copy)


def cosines_beside_scores(bench: Workbench, scores: Artifact) -> Artifact:
    """Both cosines of every candidate, which `score` took from the passes that refusal scores need."""
    return bench.obtain(BESIDE, {}, {"scores": scores}, dict(scores.about))


def score_by_cosine(bench: Workbench, lang: str) -> Artifact:
    """Both cosines and the KL of every candidate on all validation prompts, where there are no refusal scores.

    No rule but its layer limit enters here.
    """
    inputs = {
        "directions": extract_directions(bench, lang),
        **{f"val_{k}": draw_prompts(bench, lang, k, "val") for k in KINDS},
    }
    layers = sorted(bench.settings.selection.layers) if bench.settings.selection.layers is not None else None
    share = bench.settings.selection.resolved_rule().max_layer_share
    params = {"layers": layers, "max_layer_share": share}
    about = {"model": bench.ref.name, "lang": lang, "data": bench.settings.prompts.data}
    return bench.obtain(COSMIC, params, inputs, about)


def read_cosmic(artifact: Artifact) -> CosmicTable:
    return formats.read_record(artifact.path, CosmicTable)


def winner_by_cosine(rows: Sequence[CosmicCandidate], rule: Rule) -> CosmicCandidate:
    """The chosen candidate's row. Raises `EmptySelection` where none keeps the model's answers (KL)."""
    row = choose_by_cosine(rows, rule)
    if row is None:
        least = min(row.kl for row in rows)
        raise EmptySelection(
            f"none of {len(rows)} candidates keeps the KL of harmless prompts at or below {rule.max_kl:g} (COSMIC)",
            hint=f"the best would pass with --max-kl {least:.3g}",
        )
    return row
