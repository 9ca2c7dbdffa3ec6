"""Where a control draw is read: it is searched over the candidates' places as the direction was.

A direction that was chosen because it does much in its own language does more in others too; draws that nobody chose
would be no match for it, on whatever prompts both are compared (`benchmarks/procedure_simulation.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from refusalctl.errors import EmptySelection
from refusalctl.progress import batches
from refusalctl.records.selection import Candidate
from refusalctl.stats.selection_rule import Rule, layer_limit
from refusalctl.steps.activations import ACTIVATIONS_FILE
from refusalctl.steps.directions import DIRECTIONS_FILE, KINDS
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.selection.openings import read_openings
from refusalctl.steps.selection.scorer import Criteria, Scorer, mean
from refusalctl.steps.selection.scores import read_choice
from refusalctl.steps.step import Job
from refusalctl.store import formats

if TYPE_CHECKING:
    import torch

    from refusalctl.model.savings.parts import Wanted

# what a class is run for, by criterion
WANTED: dict[str, dict[str, Wanted]] = {"bypass": {"harmful": "opening"}, "kl": {"harmless": "next"}}


class Place(NamedTuple):
    """A candidate's place, the real candidate there [d_model], and train activations by class [n_prompts, d_model]."""

    at: Candidate
    real: torch.Tensor
    harmful: torch.Tensor
    harmless: torch.Tensor

    @property
    def n_prompts(self) -> int:
        return len(self.harmful) + len(self.harmless)


class Searched(NamedTuple):
    """`chosen`: of each draw, the index of its place."""

    chosen: list[int]
    passes: int  # prompts run


def pick(
    places: Sequence[int], bypass: Callable[[int], float], kl: Callable[[int], float], max_kl: float | None
) -> int:
    """The place of the lowest bypass score among those whose KL is within the rule's limit, asked in that order; where
    none is, that of the lowest KL, which is then ablated in part. Whether adding a draw induces refusals is not asked:
    few directions do, and a null must not lose for want of a candidate."""
    kl = cache(kl)
    for place in sorted(places, key=bypass):
        if max_kl is None or kl(place) <= max_kl:
            return place
    return min(places, key=kl)


def places_of(job: Job) -> list[Place]:
    """Places that are searched: those of the candidates that the real selection had."""
    import torch

    tensors, header = formats.read_vectors(job.inputs["directions"].path / DIRECTIONS_FILE, "directions")
    table = read_choice(job.inputs["selection"])
    limit = layer_limit(Rule(**job.params["rule"]).max_layer_share, table.n_layers)
    candidates = [c.place for c in table.candidates if c.layer < limit]
    found = []
    for at in candidates:
        column, rows = header["positions"].index(at.pos), {}
        for kind in KINDS:
            with formats.open_activations(job.inputs[kind].path / ACTIVATIONS_FILE) as (data, _header):
                rows[kind] = torch.from_numpy(data[:, column, at.layer])
        found.append(Place(at, tensors["candidates"][column, at.layer], rows["harmful"], rows["harmless"]))
    return found


def search(job: Job, places: list[Place], draws: Sequence[torch.Tensor], kept_in: str) -> Searched:
    """A place for every draw, chosen on the source's validation prompts. `draws`: by place, directions [n, d_model] or
    bases [n, rank, d_model].

    With `max_candidates`, so many places of a draw are scored, those that look best to first order. Finished choices
    outlive an interruption, in the file `kept_in`. One place alone needs no pass.
    """
    from refusalctl.model.hooks import Intervention

    n = len(draws[0])
    if len(places) == 1:
        return Searched([0] * n, 0)
    rows = FinishedRows(job.partial, kept_in)
    most = min(job.params["max_candidates"] or len(places), len(places))
    criteria, max_kl = criteria_of(job, n * most), Rule(**job.params["rule"]).max_kl
    orders = promising(criteria, draws) if most < len(places) else [range(len(places))] * n
    first = criteria.passes
    with batches(job.bench.progress, f"place controls of {job.inputs['directions'].about['lang']}", n) as advance:
        advance(len(rows))
        for i in range(len(rows), n):
            before = criteria.passes

            def asked(name: str, place: int, draw: int = i) -> float:
                what = draws[place][draw]
                done = Intervention("ablate" if what.ndim == 1 else "subspace", what, places[place].at.layer)
                return mean(criteria.under(done, WANTED[name])[name])

            chosen = pick(orders[i][:most], partial(asked, "bypass"), partial(asked, "kl"), max_kl)
            rows.add({"place": chosen, "passes": criteria.passes - before})
            advance()
    done: list[dict[str, Any]] = list(rows)
    return Searched([row["place"] for row in done], first + sum(row["passes"] for row in done))


def promising(criteria: Criteria, draws: Sequence[torch.Tensor]) -> list[list[int]]:
    """Places of every draw, the lowest bypass score to first order first."""
    found: list[list[int]] = first_order(criteria, draws).argsort(dim=0, stable=True).T.tolist()
    return found


def first_order(criteria: Criteria, draws: Sequence[torch.Tensor]) -> torch.Tensor:
    """What every draw changes in the mean bypass score at every place to first order, [n_places, n] float64.

    Every write loses the sum of its parts along orthonormal directions, so what a span does is the sum of what they do.
    """
    import torch

    bases = torch.stack(list(draws))
    if bases.ndim == 3:
        bases = bases[:, :, None]
    return criteria.first_order_bypass(bases.flatten(0, 2)).reshape(bases.shape[:3]).sum(-1)


def criteria_of(job: Job, n_directions: int) -> Criteria:
    """On the validation prompts of the source that selection kept, all of them: the direction was chosen on as many."""
    opening = read_openings(job.inputs["openings"])
    scorer = Scorer(job.bench.model, [list(each) for each in opening.sequences], job.bench.machine.batch_size)
    validation = read_choice(job.inputs["selection"]).validation
    if validation is None:
        raise EmptySelection(
            "control directions cannot be searched: the direction was not chosen on validation prompts here",
            hint="select it with refusalctl, or search one place alone: --control-candidates 1",
        )
    encoded: dict[str, list[list[int]]] = {}
    for kind in KINDS:
        rows = read_prompts(job.inputs[f"val_{kind}"])
        encoded[kind] = scorer.encode(job, [rows[i] for i in validation.kept.of(kind)])
    return Criteria(scorer, encoded["harmful"], encoded["harmless"], n_directions=n_directions)
