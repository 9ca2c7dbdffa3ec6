"""Scores of candidate directions on validation prompts, as `score` and `controls` take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from refusalctl.progress import Advance
from refusalctl.records.rows import KINDS, Prompt
from refusalctl.records.selection import (
    ByClass,
    Candidate,
    CosmicCandidate,
    PromptScores,
    ScoredCandidate,
    ScoreEstimate,
)
from refusalctl.stats.candidate_choice import CRITERIA
from refusalctl.steps.asking import encode
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.step import Job

if TYPE_CHECKING:
    import torch

    from refusalctl.model.chat_model import ChatModel
    from refusalctl.model.hooks import Intervention
    from refusalctl.model.intervention_words import InterventionKind
    from refusalctl.model.savings.parts import BatchScores, Wanted

Scores = dict[str, list[float]]  # by criterion, per prompt
AT_ONCE = 1024  # directions whose components in every write and token are held at once
STEPS = 4  # in which a KL is looked at, where it may show early that it is above a limit
OPENED = {"harmful": "bypass", "harmless": "induce"}  # whose refusal scores serve which criterion


class Scorer:
    """A model with the openings of one language: refusal scores and log-probabilities under any intervention."""

    def __init__(self, model: ChatModel, openings: list[list[int]], batch_size: int) -> None:
        from refusalctl.model.hooks import Checks

        self.model, self.openings, self.batch_size, self.checks = model, openings, batch_size, Checks()

    def encode(self, job: Job, rows: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of prompts up to where their answers begin, with room for the openings behind them."""
        return encode(job, rows, max(map(len, self.openings), default=1) - 1, scored=True)

    def refusal(self, encoded: list[list[int]], intervention: Intervention) -> torch.Tensor:
        """Refusal score of each prompt under an intervention."""
        from refusalctl.model.forward import opening_logprob
        from refusalctl.stats.refusal import refusal_score

        found = opening_logprob(self.model, encoded, self.openings, intervention, self.batch_size, self.checks)
        return refusal_score(found)


class Measured(NamedTuple):
    """What one direction does: scores by criterion and prompt, and COSMIC's two cosines where they were asked for."""

    scores: Scores
    cosines: dict[str, float]


class Criteria:
    """Bypass, induce and KL of any direction, per prompt, on prompts that stay the same.

    `n_directions`: how many are to be measured (None: many), on everything or, with `partly`, as far as a search asks
    for it. With `layers`, `all` also compares mean streams at the last position of these layers (COSMIC). `fast` False
    computes everything anew for every direction (see `refusalctl.model.savings.sweeps`).
    """

    def __init__(
        self,
        scorer: Scorer,
        harmful: list[list[int]],
        harmless: list[list[int]],
        *,
        layers: Sequence[int] = (),
        n_directions: int | None = None,
        partly: bool = False,
        fast: bool = True,
    ) -> None:
        from refusalctl.model.hooks import Intervention
        from refusalctl.model.savings.sweeps import Sweeps

        prompts = {"harmful": harmful, "harmless": harmless}
        self.scorer, self.n = scorer, {kind: len(rows) for kind, rows in prompts.items()}
        self.sweeps = Sweeps(
            scorer.model,
            prompts,
            scorer.openings,
            scorer.batch_size,
            layers=layers,
            additions=n_directions,
            sure=not partly,
            steps={"harmless": STEPS} if partly else None,
            fast=fast,
        )
        self.passes = 0  # prompts run
        self.reference: dict[int, torch.Tensor] = {}
        both: dict[str, Wanted] = {"harmful": self.widest, "harmless": self.widest}
        plain = self._run(Intervention(), both if layers or partly else {"harmless": "next"})
        for ran in plain:
            if ran.kind == "harmless":
                self.reference |= dict(zip(ran.indices, ran.logprobs))
        self.streams = self._mean_streams(plain)
        self.baseline = self._opened(plain)

    def narrow(self, kept: ByClass[tuple[int, ...]]) -> None:
        """Go on with these prompts alone."""
        import torch

        indices: dict[str, tuple[int, ...]] = {kind: kept.of(kind) for kind in KINDS}
        self.baseline = {kind: self.baseline[kind][torch.tensor(at, dtype=torch.long)] for kind, at in indices.items()}
        self.reference = {new: self.reference[old] for new, old in enumerate(kept.harmless)}
        self.n = {kind: len(at) for kind, at in indices.items()}
        self.sweeps.narrow(indices)

    @property
    def looks(self) -> bool:
        """Whether a KL can be looked at in parts. A GPU runs all harmless prompts at once, or repeats their passes."""
        parts = [part for part in self.sweeps.parts if part.kind == "harmless"]
        return self.scorer.model.device.type == "cpu" and len(parts) > 1

    @property
    def widest(self) -> Wanted:
        """What a class is asked for that serves everything."""
        return "opening" if self.scorer.openings else "next"

    @property
    def names(self) -> tuple[str, ...]:
        """What `all` measures: without openings KL alone."""
        return CRITERIA if self.scorer.openings else ("kl",)

    def bypass(self, vector: torch.Tensor, layer: int) -> Scores:
        """Refusal scores of harmful prompts under ablation."""
        return self._measure("ablate", vector, layer, {"harmful": "opening"})

    def induce(self, vector: torch.Tensor, layer: int) -> Scores:
        """Refusal scores of harmless prompts under addition."""
        return self._measure("add", vector, layer, {"harmless": "opening"})

    def kl(self, vector: torch.Tensor, layer: int) -> Scores:
        """KL divergences of harmless prompts under ablation, nats."""
        return self._measure("ablate", vector, layer, {"harmless": "next"})

    def kl_until(
        self, vector: torch.Tensor, layer: int, known: Mapping[int, float], told: Callable[[dict[int, float]], bool]
    ) -> dict[int, float]:
        """A direction's KL by harmless prompt: what is `known` of it, and batch by batch more, until that is `told`."""
        from refusalctl.model.hooks import Intervention

        found = dict(known)

        def look(ran: BatchScores) -> bool:
            found.update(zip(ran.indices, self._kl(ran)))
            return told(found)

        self._run(Intervention("ablate", vector, layer), {"harmless": "next"}, done=set(known), until=look)
        self.scorer.checks.verify(self.scorer.model.model)
        return found

    def under(self, intervention: Intervention, wanted: dict[str, Wanted]) -> Scores:
        """Scores under any intervention: of "opening" the refusal scores (harmful: bypass, harmless: induce), of
        harmless prompts' "next" token KL."""
        return self._scores(self._run(intervention, wanted))

    def all(self, vector: torch.Tensor, layer: int) -> Measured:
        """Everything; the shared beginning is ablated once for bypass and KL."""
        if self.scorer.model.device.type == "cuda":  # now, because a copy waits for what the device has begun
            vector = vector.to(self.scorer.model.device)
        ablated = self._under("ablate", vector, layer, {"harmful": self.widest, "harmless": "next"})
        added = self._under("add", vector, layer, {"harmless": self.widest})
        scores = self._scores(ablated) | (self._scores(added) if self.scorer.openings else {})
        if not self.streams:
            return Measured(scores, {})
        comply = _cosine(self._mean_streams(ablated)["harmful"], self.streams["harmless"])
        refuse = _cosine(self._mean_streams(added)["harmless"], self.streams["harmful"])
        return Measured(scores, {"comply": comply, "refuse": refuse})

    def estimates(self, vectors: Mapping[Candidate, torch.Tensor]) -> dict[Candidate, ScoreEstimate]:
        """First-order means of every candidate, from a few backward passes over the prompts."""
        import torch

        from refusalctl.model.gradients import Directions, kl_estimates, refusal_scores

        model, openings, size = self.scorer.model, self.scorer.openings, self.scorer.batch_size
        asked = Directions(torch.stack(list(vectors.values())), [c.layer for c in vectors])
        harmful, harmless = (self.sweeps.prompts[kind] for kind in ("harmful", "harmless"))
        bypass = refusal_scores(model, harmful, openings, asked, size, added=False)
        induce = refusal_scores(model, harmless, openings, asked, size, added=True)
        kl = kl_estimates(model, harmless, asked, size)
        columns = (bypass.score[:, None] + bypass.change, induce.score[:, None] + induce.change, kl)
        means = zip(*(column.double().mean(0).tolist() for column in columns))
        return {candidate: ScoreEstimate(*each) for candidate, each in zip(vectors, means)}

    def first_order_bypass(self, vectors: torch.Tensor) -> torch.Tensor:
        """What ablating each of `vectors` [n, d_model] changes in the mean bypass score to first order, [n] float64."""
        import torch

        from refusalctl.model.gradients import Directions, refusal_scores

        scorer, harmful = self.scorer, self.sweeps.prompts["harmful"]
        found = []
        for part in torch.split(vectors, AT_ONCE):
            asked = Directions(part, [0] * len(part))
            linear = refusal_scores(scorer.model, harmful, scorer.openings, asked, scorer.batch_size, added=False)
            found.append(linear.change.double().mean(0))
            self.passes += 3 * len(harmful)  # a backward pass costs about two
        return torch.cat(found)

    def _measure(self, how: InterventionKind, vector: torch.Tensor, layer: int, wanted: dict[str, Wanted]) -> Scores:
        return self._scores(self._under(how, vector, layer, wanted))

    def _under(
        self, how: InterventionKind, vector: torch.Tensor, layer: int, wanted: dict[str, Wanted]
    ) -> list[BatchScores]:
        from refusalctl.model.hooks import Intervention

        return self._run(Intervention(how, vector, layer), wanted)

    def _scores(self, found: list[BatchScores]) -> Scores:
        """By criterion, in the prompts' order: which one a batch is for shows in its class and what it holds."""
        self.scorer.checks.verify(self.scorer.model.model)
        refusals = self._opened(found)
        scores = {name: refusals[kind].tolist() for kind, name in OPENED.items() if kind in refusals}
        kl = [float("nan")] * self.n["harmless"]
        for ran in found:
            if ran.kind == "harmless" and ran.opening is None:
                for i, nats in zip(ran.indices, self._kl(ran)):
                    kl[i] = nats
                scores["kl"] = kl
        return scores

    def _kl(self, ran: BatchScores) -> list[float]:
        """KL of harmless prompts, in the batch's order."""
        import torch

        from refusalctl.stats.refusal import kl_divergence

        before = torch.stack([self.reference[i] for i in ran.indices])
        found: list[float] = kl_divergence(before, ran.logprobs).tolist()
        return found

    def _opened(self, found: list[BatchScores]) -> dict[str, torch.Tensor]:
        """Refusal scores by class, float64, in the prompts' order, of the classes that were asked for openings."""
        import torch

        from refusalctl.stats.refusal import refusal_score

        scores: dict[str, torch.Tensor] = {}
        for ran in found:
            if ran.opening is not None:
                empty = torch.full((self.n[ran.kind],), float("nan"), dtype=torch.float64)
                scores.setdefault(ran.kind, empty)[ran.indices] = refusal_score(ran.opening.cpu())
        return scores

    def _mean_streams(self, found: list[BatchScores]) -> dict[str, torch.Tensor]:
        """Mean over prompts and layers [d_model] of each class, float64; empty where no layers were asked for."""
        if not self.sweeps.layers:
            return {}
        total: dict[str, torch.Tensor] = {}
        for ran in found:
            summed = ran.streams.cpu().double().mean(1).sum(0)
            total[ran.kind] = total[ran.kind] + summed if ran.kind in total else summed
        return {kind: each / self.n[kind] for kind, each in total.items()}

    def _run(self, intervention: Intervention, wanted: dict[str, Wanted], **less: Any) -> list[BatchScores]:
        """`less`: what may be left out, see `Sweeps.run`."""
        found = self.sweeps.run(intervention, wanted, self.scorer.checks, **less)
        self.passes += sum(len(ran.indices) for ran in found)
        return found


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    import torch

    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


class Ledger:
    """Candidates' scores by criterion, measured when asked for. What was measured outlives an interruption.

    `advance` is called once per candidate that gets a score.
    """

    def __init__(
        self, criteria: Criteria, vectors: Mapping[Candidate, torch.Tensor], finished: FinishedRows, advance: Advance
    ) -> None:
        self.criteria, self.vectors, self.finished, self.advance = criteria, vectors, finished, advance
        self.known: dict[Candidate, Measured] = {}
        self.estimated: dict[Candidate, ScoreEstimate] = {}
        self.looked: dict[Candidate, dict[int, float]] = {}  # KL of some of the prompts
        for row in finished:
            if "looked" in row:
                self._look(Candidate(row["pos"], row["layer"]), dict(row["looked"]))
            else:
                self._take(Candidate(row["pos"], row["layer"]), Measured(row["scores"], row["cosines"]))

    def mean(self, name: str, candidate: Candidate) -> float:
        """One criterion, mean over prompts."""
        if name not in self.scores(candidate) and name == "kl" and candidate in self.looked:
            self.exceeds(candidate, float("inf"))
        if name not in self.scores(candidate):
            measure = {"bypass": self.criteria.bypass, "induce": self.criteria.induce, "kl": self.criteria.kl}[name]
            self._keep(candidate, Measured(measure(self.vectors[candidate], candidate.layer), {}))
        return mean(self.scores(candidate)[name])

    def exceeds(self, candidate: Candidate, limit: float, *, at_a_look: bool = False) -> bool:
        """Whether the mean KL is above a limit, from no more prompts than it takes: no prompt's KL is below 0, so those
        that were looked at say how large the mean is at least. `at_a_look`: from one batch; False where it tells not.
        """
        if "kl" in self.scores(candidate) or not self.criteria.looks:
            return not at_a_look and self.mean("kl", candidate) > limit
        n = self.criteria.n["harmless"]

        def told(found: Mapping[int, float]) -> bool:
            return sum(found.values()) > limit * n

        known = self.looked.get(candidate, {})
        if not told(known) and not (at_a_look and known):
            until = (lambda _found: True) if at_a_look else told
            known = self.criteria.kl_until(self.vectors[candidate], candidate.layer, known, until)
            if len(known) == n:
                self._keep(candidate, Measured({"kl": [known[i] for i in range(n)]}, {}))
                return mean(self.scores(candidate)["kl"]) > limit
            self.finished.add({**candidate._asdict(), "looked": list(known.items())})
            self._look(candidate, known)
        return told(known)

    def complete(self, candidate: Candidate) -> None:
        """Measure what is missing of a candidate."""
        if candidate not in self.known:
            self._keep(candidate, self.criteria.all(self.vectors[candidate], candidate.layer))
            return
        for name in self.criteria.names:
            self.mean(name, candidate)

    def estimates(self) -> dict[Candidate, ScoreEstimate]:
        """First-order means of every candidate."""
        if not self.estimated:
            self.estimated = self.criteria.estimates(self.vectors)
        return self.estimated

    def scores(self, candidate: Candidate) -> Scores:
        """What was measured so far."""
        return self.known[candidate].scores if candidate in self.known else {}

    def row(self, candidate: Candidate, kept: ByClass[tuple[int, ...]]) -> ScoredCandidate:
        """Means and scores per prompt over the prompts that are `kept`; None for a criterion that was not measured."""
        known = {
            name: tuple(values[i] for i in (kept.harmful if name == "bypass" else kept.harmless))
            for name, values in self.scores(candidate).items()
        }
        bypass, induce, kl = (mean(known[name]) if name in known else None for name in CRITERIA)
        per_prompt = PromptScores(*(known.get(name) for name in CRITERIA))
        estimate = self.estimated[candidate] if self.estimated else None
        return ScoredCandidate(*candidate, bypass, induce, kl, per_prompt, estimate)

    def least_kl(self) -> dict[str, float]:
        """What is known of a mean KL that was not measured on every prompt, by position and layer: it is no less."""
        n = self.criteria.n["harmless"]
        unknown = {c: found for c, found in self.looked.items() if "kl" not in self.scores(c)}
        return {f"{c.pos},{c.layer}": round(sum(found.values()) / n, 6) for c, found in unknown.items()}

    def cosines(self, candidate: Candidate) -> CosmicCandidate:
        """COSMIC's row: both cosines, and KL over all prompts."""
        found = self.known[candidate]
        return CosmicCandidate(*candidate, found.cosines["comply"], found.cosines["refuse"], mean(found.scores["kl"]))

    def _keep(self, candidate: Candidate, found: Measured) -> None:
        self.finished.add({**candidate._asdict(), **found._asdict()})
        self._take(candidate, found)

    def _look(self, candidate: Candidate, found: dict[int, float]) -> None:
        if candidate not in self.known and candidate not in self.looked:
            self.advance()
        self.looked[candidate] = found

    def _take(self, candidate: Candidate, found: Measured) -> None:
        if candidate not in self.known and candidate not in self.looked:
            self.advance()
        before = self.known.get(candidate, Measured({}, {}))
        self.known[candidate] = Measured(before.scores | found.scores, before.cosines | found.cosines)


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
