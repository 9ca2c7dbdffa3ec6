"""`controls`: what control directions do to a target's refusal score, beside the real direction, at no more damage.

Measured per cell on test prompts, which chose nothing, and without writing completions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from refusalctl.data import sets
from refusalctl.errors import EmptySelection
from refusalctl.json_types import JsonObject
from refusalctl.progress import batches
from refusalctl.records.controls import AddedControls, ControlDraw, Controls, CosineSize
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.interventions import CONTROLS_FILE as VECTORS
from refusalctl.steps.interventions import SELECTION_FILE, SUBSPACE_FILE
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.selection.controls import FAMILY, SUBSPACES, draw_control_directions, openings_to_compare_by
from refusalctl.steps.selection.openings import read_openings
from refusalctl.steps.selection.scorer import Criteria, Scorer, mean
from refusalctl.steps.selection.scores import select_direction
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.steps.subspace import build_subspace
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch

    from refusalctl.model.hooks import Intervention
    from refusalctl.stats.controls import Matched


class _Compared(NamedTuple):
    """What is ablated: the real direction [d_model] and draws [n, d_model], or for several directions at once bases
    [rank, d_model] and [n, rank, d_model]. What is added is the direction and single draws, where they were drawn, each
    at the layer that it was read at (`layers`)."""

    direction: torch.Tensor
    ablated: torch.Tensor
    ablated_draws: torch.Tensor
    layer: int
    draws: torch.Tensor | None
    layers: list[int]
    searched: int
    candidates: int

    def ablation(self, what: torch.Tensor, strength: float = 1.0) -> Intervention:
        from refusalctl.model.hooks import Intervention

        return Intervention("ablate" if what.ndim == 1 else "subspace", what, self.layer, strength=strength)


def _read(job: Job) -> _Compared:
    """Draws of the rank of the ablation that they stand beside."""
    drawn, known = formats.read_vectors(job.inputs["directions"].path / VECTORS, "control_directions")
    tensors, chosen = formats.read_vectors(job.inputs["selection"].path / SELECTION_FILE, "selection")
    ablated, ablated_draws = tensors["direction"], drawn.get(FAMILY)
    if job.params["rank"] > 1:
        held, _header = formats.read_vectors(job.inputs["subspace"].path / SUBSPACE_FILE, "subspace")
        ablated, ablated_draws = held["basis"], drawn[SUBSPACES]
    assert ablated_draws is not None
    layers = [layer for _pos, layer in known.get(f"places_{FAMILY}", ())]
    return _Compared(
        tensors["direction"],
        ablated,
        ablated_draws,
        chosen["layer"],
        drawn.get(FAMILY),
        layers,
        known["searched"],
        known["candidates"],
    )


class _Bench:
    """The target's test prompts: harmful ones that are refused, and harmless ones that are not, for damage.

    A harmless prompt that is refused is no measure of damage: what takes refusals away changes its answer as it should,
    and by many nats, which would let draws break far more than the direction does. Selection leaves such prompts out
    too. Only the plain model decides which, so they are the same for the direction and for every draw.
    """

    def __init__(self, job: Job, n_draws: int) -> None:
        opening = read_openings(job.inputs["openings"])
        self.scorer = Scorer(job.bench.model, [list(each) for each in opening.sequences], job.bench.machine.batch_size)
        wanted = job.params["n_prompts"]
        target, said = job.params["target"], "a refusal score above 0: there is no refusal for a control to remove"
        harmful, self.baselines, refused = self._first(job, "harmful", wanted, lambda score: score > 0)
        if not harmful:
            raise EmptySelection(f"none of {refused} harmful test prompts of {target} has {said}")
        harmless, self.answered, looked_at = self._first(job, "harmless", wanted, lambda score: score < 0)
        if not harmless:
            raise EmptySelection(
                f"control directions could not be matched in damage: all {looked_at} harmless test prompts of {target} "
                "have a refusal score of 0 or more"
            )
        self.scored = refused + looked_at
        self.criteria = Criteria(self.scorer, harmful, harmless, n_directions=n_draws)

    def _first(
        self, job: Job, kind: str, wanted: int, fits: Callable[[float], bool]
    ) -> tuple[list[list[int]], list[float], int]:
        """The first `wanted` prompts whose refusal score fits, these scores, and how many were looked at."""
        from refusalctl.model.hooks import Intervention

        encoded = self.scorer.encode(job, read_prompts(job.inputs[f"test_{kind}"]))
        found: list[tuple[list[int], float]] = []
        seen = 0
        while seen < len(encoded) and len(found) < wanted:
            here = encoded[seen : seen + wanted]
            seen += len(here)
            scores = self.scorer.refusal(here, Intervention()).tolist()
            found += [(ids, score) for ids, score in zip(here, scores, strict=True) if fits(score)]
        kept = found[:wanted]
        return [ids for ids, _ in kept], [score for _, score in kept], seen

    def kl(self, asked: Intervention) -> float:
        return mean(self.criteria.under(asked, {"harmless": "next"})["kl"])

    def refusal(self, asked: Intervention) -> float:
        """Mean refusal score of harmful prompts."""
        return mean(self.criteria.under(asked, {"harmful": "opening"})["bypass"])

    def harmless_scores(self, asked: Intervention) -> list[float]:
        return self.criteria.under(asked, {"harmless": "opening"})["induce"]


def _run(job: Job) -> RunChecks:
    from refusalctl.stats.controls import damage_limit, p_value
    from refusalctl.stats.max_t import smallest_p

    compared = _read(job)
    bench = _Bench(job, len(compared.ablated_draws))
    before = mean(bench.baselines)
    real = compared.ablation(compared.ablated)
    real_kl = max(bench.kl(real), 0.0)  # rounding may leave it below
    drop, limit = before - bench.refusal(real), damage_limit(real_kl)
    first = bench.criteria.passes
    draws, matching = _matched_draws(job, bench, compared, before, limit)
    added, adding = _added(job, bench, compared)
    drops = [each.drop for each in draws]
    value = Controls(
        source=job.params["source"],
        target=job.params["target"],
        drop=drop,
        baseline=before,
        kl=real_kl,
        kl_limit=limit,
        draws=tuple(draws),
        p=p_value(drop, drops),
        p_reverse=p_value(-drop, [-each for each in drops]),
        smallest_p=smallest_p(len(draws)),
        abs_cosine=_cosines(compared),
        rank=job.params["rank"],
        n_prompts=len(bench.baselines),
        n_harmless=bench.criteria.n["harmless"],
        n_scored=bench.scored,
        searched=compared.searched,
        candidates=compared.candidates,
        prompt_passes=bench.scored + first + matching + adding,
        added=added,
    )
    formats.write_record(job.out, value)
    return {"prompt_passes": value.prompt_passes, "p": value.p, "at_full_strength": value.n_whole}


def _matched_draws(
    job: Job, bench: _Bench, compared: _Compared, before: float, limit: float
) -> tuple[list[ControlDraw], int]:
    """Every draw at the strength whose damage is at most `limit`, and prompts run. Finished ones are kept.

    Raises `EmptySelection` for a draw that cannot be brought there: one that was left out would make the null weaker.
    """
    rows = FinishedRows(job.partial, "draws.jsonl")
    found = [ControlDraw(row["strength"], row["kl"], row["drop"]) for row in rows]
    name = f"controls {job.params['source']} in {job.params['target']}"
    with batches(job.bench.progress, name, len(compared.ablated_draws)) as advance:
        advance(len(found))
        for vector in compared.ablated_draws[len(found) :]:
            started = bench.criteria.passes
            at = _match(bench, compared, vector, limit)
            if at is None:
                raise EmptySelection(
                    f"control directions could not be matched in damage: one makes a KL of more than {limit:.2g} nats "
                    f"on harmless prompts of {job.params['target']} even at the least strength that is tried"
                )
            drop = before - bench.refusal(compared.ablation(vector, at.strength))
            found.append(ControlDraw(at.strength, at.kl, drop))
            passes = bench.criteria.passes - started
            rows.add({"strength": at.strength, "kl": at.kl, "drop": drop, "passes": passes})
            advance()
    return found, sum(row["passes"] for row in rows)


def _match(bench: _Bench, compared: _Compared, vector: torch.Tensor, limit: float) -> Matched | None:
    from refusalctl.stats.controls import matched

    return matched(lambda strength: max(bench.kl(compared.ablation(vector, strength)), 0.0), limit)


def _added(job: Job, bench: _Bench, compared: _Compared) -> tuple[AddedControls | None, int]:
    """What the draws do to harmless prompts when they are added, None where it was not asked for; and prompts run.

    Each at its own place and at the real candidate's length there, as the direction is at its own.
    """
    from refusalctl.model.hooks import Intervention
    from refusalctl.stats.controls import p_value

    coeff, first = job.params["coeff"], bench.criteria.passes
    if coeff is None:
        return None, 0
    before, n = mean(bench.answered), len(bench.answered)

    def rise(vector: torch.Tensor, layer: int) -> float:
        return mean(bench.harmless_scores(Intervention("add", vector, layer, coeff))) - before

    real = rise(compared.direction, compared.layer)
    passes = bench.criteria.passes - first
    rises = _rises(job, compared, rise)
    reverse = p_value(-real, [-each for each in rises])
    added = AddedControls(coeff, real, before, n, tuple(rises), p_value(real, rises), reverse)
    return added, passes + len(rises) * n


def _rises(job: Job, compared: _Compared, rise: Callable[[torch.Tensor, int], float]) -> Sequence[float]:
    """`rise` of every draw; finished ones outlive an interruption."""
    assert compared.draws is not None  # drawn wherever something is added
    rows = FinishedRows(job.partial, "rises.jsonl")
    found = [row["rise"] for row in rows]
    for vector, layer in list(zip(compared.draws, compared.layers, strict=True))[len(found) :]:
        found.append(rise(vector, layer))
        rows.add({"rise": found[-1]})
    return found


def _cosines(compared: _Compared) -> CosineSize:
    """|cosine| of draws to the direction; of subspaces, of their projection on it."""
    import torch

    draws, direction = compared.ablated_draws.double(), compared.direction.double()
    if draws.ndim == 3:
        sizes = (draws @ (direction / direction.norm())).norm(dim=1)
    else:
        sizes = torch.nn.functional.cosine_similarity(draws, direction[None]).abs()
    return CosineSize(float(sizes.mean()), float(sizes.max()))


CONTROLS = Step("controls", 8, "controls", _run, uses_model=True)


def compare_controls(bench: Workbench, source: str, target: str) -> Artifact:
    """Drop of the target's refusal score (log-odds, mean over prompts) by the source's direction and its controls.

    Raises `EmptySelection` where the source has no direction, the target refuses too little to tell, or damage cannot
    be compared.
    """
    data = bench.settings.prompts.data
    if not sets.usable(data, target, "harmless", "test"):
        raise EmptySelection(
            f"control directions could not be matched in damage: the set {data!r} has no harmless test prompts in "
            f"{target}"
        )
    inputs = {
        "selection": select_direction(bench, source),
        "directions": draw_control_directions(bench, source),
        "openings": openings_to_compare_by(bench, target),
        "test_harmful": draw_prompts(bench, target, "harmful", "test"),
        "test_harmless": draw_prompts(bench, target, "harmless", "test"),
    }
    asked = bench.settings.verdict
    params: JsonObject = {
        "source": source,
        "target": target,
        "n_prompts": bench.settings.controls.control_prompts,
        "rank": asked.rank,
        "coeff": asked.doses[0] if asked.induce else None,
    }
    if asked.rank > 1:
        inputs["subspace"] = build_subspace(bench, inputs["selection"], source)
    about = {"model": bench.ref.name, "source": source, "target": target, "data": data, "lang": target}
    return bench.obtain(CONTROLS, params, inputs, about)


def read_controls(artifact: Artifact) -> Controls:
    return formats.read_record(artifact.path, Controls)
