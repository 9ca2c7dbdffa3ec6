"""Scores of candidate directions on validation prompts, as `score` and `controls` take them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refusalctl.stats.selection import CRITERIA, Candidate
from refusalctl.steps.step import Advance
from refusalctl.store import formats

if TYPE_CHECKING:
    import torch

    from refusalctl.model.hooks import Intervention
    from refusalctl.model.load import ChatModel
    from refusalctl.model.sweeps import Ran, Wanted
    from refusalctl.model.wording import InterventionKind

Scores = dict[str, list[float]]  # by criterion, per prompt


class Scorer:
    """A model with the openings of one language: refusal scores and log-probabilities under any intervention."""

    def __init__(self, model: ChatModel, openings: list[list[int]], batch_size: int) -> None:
        from refusalctl.model.hooks import Checks

        self.model, self.openings, self.batch_size, self.checks = model, openings, batch_size, Checks()

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [self.model.chat.encode(text) for text in texts]

    def refusal(self, encoded: list[list[int]], intervention: Intervention) -> torch.Tensor:
        """Refusal score of each prompt under an intervention."""
        from refusalctl.model.forward import opening_logprob
        from refusalctl.stats.refusal import refusal_score

        found = opening_logprob(self.model, encoded, self.openings, intervention, self.batch_size, self.checks)
        return refusal_score(found)

    def logprobs(self, encoded: list[list[int]], intervention: Intervention) -> torch.Tensor:
        from refusalctl.model.forward import last_logprobs

        return last_logprobs(self.model, encoded, intervention, self.batch_size, self.checks)


class Criteria:
    """Bypass, induce and KL of any direction, per prompt, on prompts that stay the same.

    `fast` False computes everything anew for every direction (see `refusalctl.model.sweeps`).
    """

    def __init__(
        self, scorer: Scorer, harmful: list[list[int]], harmless: list[list[int]], *, fast: bool = True
    ) -> None:
        from refusalctl.model.hooks import Intervention
        from refusalctl.model.sweeps import Sweeps

        prompts = {"harmful": harmful, "harmless": harmless}
        self.scorer, self.n = scorer, {kind: len(rows) for kind, rows in prompts.items()}
        self.sweeps = Sweeps(scorer.model, prompts, scorer.openings, scorer.batch_size, fast=fast)
        self.passes = 0  # prompts run
        self.reference: dict[int, torch.Tensor] = {}
        for ran in self._run(Intervention(), {"harmless": "next"}):
            self.reference |= dict(zip(ran.indices, ran.logprobs))

    def bypass(self, vector: torch.Tensor, layer: int) -> Scores:
        """Refusal scores of harmful prompts under ablation."""
        return self._measure("ablate", vector, layer, {"harmful": "opening"})

    def induce(self, vector: torch.Tensor, layer: int) -> Scores:
        """Refusal scores of harmless prompts under addition."""
        return self._measure("add", vector, layer, {"harmless": "opening"})

    def kl(self, vector: torch.Tensor, layer: int) -> Scores:
        """KL divergences of harmless prompts under ablation, nats."""
        return self._measure("ablate", vector, layer, {"harmless": "next"})

    def all(self, vector: torch.Tensor, layer: int) -> Scores:
        """All three; the shared beginning is ablated once for two of them."""
        both = self._measure("ablate", vector, layer, {"harmful": "opening", "harmless": "next"})
        return both | self.induce(vector, layer)

    def _measure(self, how: InterventionKind, vector: torch.Tensor, layer: int, wanted: dict[str, Wanted]) -> Scores:
        import torch

        from refusalctl.model.hooks import Intervention
        from refusalctl.stats.refusal import kl_divergence, refusal_score

        found: dict[str, torch.Tensor] = {}
        for ran in self._run(Intervention(how, vector, layer), wanted):
            if ran.opening is None:
                name = "kl"
                before = torch.stack([self.reference[i] for i in ran.indices])
                scores = kl_divergence(before, ran.logprobs).cpu()
            else:
                name = "bypass" if ran.kind == "harmful" else "induce"
                scores = refusal_score(ran.opening)
            empty = torch.full((self.n[ran.kind],), float("nan"), dtype=torch.float64)
            found.setdefault(name, empty)[ran.indices] = scores
        return {name: scores.tolist() for name, scores in found.items()}

    def _run(self, intervention: Intervention, wanted: dict[str, Wanted]) -> list[Ran]:
        self.passes += sum(self.n[kind] for kind in wanted)
        return self.sweeps.run(intervention, wanted, self.scorer.checks)


class Ledger:
    """Candidates' scores by criterion, measured when asked for. What was measured outlives an interruption.

    `advance` is called once per candidate that gets a score.
    """

    def __init__(
        self, criteria: Criteria, vectors: Mapping[Candidate, torch.Tensor], file: Path, advance: Advance
    ) -> None:
        self.criteria, self.vectors, self.file, self.advance = criteria, vectors, file, advance
        self.known: dict[Candidate, Scores] = {}
        for row in formats.read_finished_rows(file):
            self._take(Candidate(row["pos"], row["layer"]), row["scores"])

    def mean(self, name: str, candidate: Candidate) -> float:
        """One criterion, mean over prompts."""
        if name not in self.known.get(candidate, {}):
            measure = {"bypass": self.criteria.bypass, "induce": self.criteria.induce, "kl": self.criteria.kl}[name]
            self._keep(candidate, measure(self.vectors[candidate], candidate.layer))
        return mean(self.known[candidate][name])

    def complete(self, candidate: Candidate) -> None:
        """Measure what is missing of a candidate."""
        if candidate not in self.known:
            self._keep(candidate, self.criteria.all(self.vectors[candidate], candidate.layer))
        for name in CRITERIA:
            self.mean(name, candidate)

    def row(self, candidate: Candidate) -> dict[str, Any]:
        """Means and scores per prompt; None for a criterion that was not measured."""
        known = self.known.get(candidate, {})
        means = {name: mean(known[name]) if name in known else None for name in CRITERIA}
        return {**candidate._asdict(), **means, "per_prompt": {name: known.get(name) for name in CRITERIA}}

    def _keep(self, candidate: Candidate, scores: Scores) -> None:
        formats.append_rows(self.file, [{**candidate._asdict(), "scores": scores}])
        self._take(candidate, scores)

    def _take(self, candidate: Candidate, scores: Scores) -> None:
        if candidate not in self.known:
            self.advance()
        self.known[candidate] = self.known.get(candidate, {}) | scores


def mean(values: list[float]) -> float:
    return float(np.mean(values))
