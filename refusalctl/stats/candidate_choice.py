"""Choosing a direction among scored candidates, and how much that choice owes to the validation prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refusalctl.errors import EmptySelection
from refusalctl.records.selection import Candidate, Stability
from refusalctl.stats.selection_rule import Rule, layer_limit

Scores = NDArray[np.float64]


CRITERIA = ("bypass", "induce", "kl")


class CandidateScores(NamedTuple):
    """Per-prompt scores of every candidate.

    bypass [n_candidates, n_harmful]: refusal score on harmful prompts under ablation; induce
    [n_candidates, n_harmless]: refusal score on harmless prompts under addition; kl [n_candidates, n_harmless]:
    KL divergence (nats) on harmless prompts under ablation.
    """

    candidates: list[Candidate]
    bypass: Scores
    induce: Scores
    kl: Scores


def choose(scores: CandidateScores, rule: Rule, n_layers: int) -> int:
    """Index of the winner. Raises `EmptySelection` that says which test removed how many, and what would help."""
    if not scores.candidates:
        raise EmptySelection("there is no candidate direction to choose from")
    for name, values in (("bypass", scores.bypass), ("induce", scores.induce), ("KL", scores.kl)):
        if values.size == 0 or not np.isfinite(values).all():
            raise EmptySelection(f"the {name} scores hold NaN or no values at all: nothing can be chosen by them")
    bypass, induce, kl = scores.bypass.mean(1), scores.induce.mean(1), scores.kl.mean(1)
    passing = _passing(scores.candidates, induce, kl, rule, n_layers)
    if not passing.any():
        raise EmptySelection(_why_empty(scores.candidates, induce, kl, rule, n_layers))
    return int(np.where(passing, bypass, np.inf).argmin())


def pick(
    n: int,
    bypass: Callable[[int], float | None],
    induce: Callable[[int], float],
    kl: Callable[[int], float],
    rule: Rule,
) -> tuple[int, bool] | None:
    """The candidate of lowest bypass score that passes the rule, and True: what `choose` gives, in fewer passes.

    Candidates are tried in order of their bypass score, so most are never asked for the other two. Where none
    passes: the lowest bypass score, and False. None where no candidate has a bypass score.
    """
    scored = sorted((score, i) for i in range(n) if (score := bypass(i)) is not None)
    for _score, i in scored:
        added = None if rule.min_induce is None else induce(i)
        if rule.induces(added) and rule.passes(added, kl(i)):
            return i, True
    return (scored[0][1], False) if scored else None


def _passing(candidates: list[Candidate], induce: Scores, kl: Scores, rule: Rule, n_layers: int) -> NDArray[np.bool_]:
    limit = layer_limit(rule.max_layer_share, n_layers)
    return np.array([c.layer < limit and rule.passes(*scores) is True for c, *scores in zip(candidates, induce, kl)])


def _why_empty(candidates: list[Candidate], induce: Scores, kl: Scores, rule: Rule, n_layers: int) -> str:
    limit = layer_limit(rule.max_layer_share, n_layers)
    early = np.array([c.layer < limit for c in candidates])
    induces, kept_kl = np.array([rule.induces(x) for x in induce]), np.array([rule.keeps(x) for x in kl])
    parts = [f"layer < {limit} removed {int((~early).sum())}"]
    if rule.max_kl is not None:
        parts.append(f"KL <= {rule.max_kl:g} removed {int((~kept_kl).sum())}")
    if rule.min_induce is not None:
        parts.append(f"induce >= {rule.min_induce:g} removed {int((~induces).sum())}")
    ways = []
    if rule.max_kl is not None and (early & induces).any():
        ways.append(f"--max-kl {_up(float(kl[early & induces].min()))}")
    if rule.min_induce is not None and (early & kept_kl).any():
        ways.append(f"--min-induce {_down(float(induce[early & kept_kl].max()))}")
    if not ways and early.any() and rule.min_induce is not None and rule.max_kl is not None:
        best = int(np.where(early, kl, np.inf).argmin())
        ways.append(f"--max-kl {_up(float(kl[best]))} together with --min-induce {_down(float(induce[best]))}")
    advice = f"the best would pass with {' or '.join(ways)}" if ways else "widen --layers or --max-layer-share"
    return f"none of {len(candidates)} candidates passes rule {rule.name!r}: {', '.join(parts)}; {advice}"


def _up(value: float) -> str:
    return f"{np.ceil(value * 1000) / 1000:g}"


def _down(value: float) -> str:
    return f"{np.floor(value * 1000) / 1000:g}"


def stability(
    scores: CandidateScores, rule: Rule, n_layers: int, generator: np.random.Generator, resamples: int = 1000
) -> Stability:
    """Bootstrap the choice over validation prompts (harmful and harmless resampled apart)."""
    wins: Counter[str] = Counter()
    n_harmful, n_harmless = scores.bypass.shape[1], scores.induce.shape[1]
    for _ in range(resamples):
        harmful = generator.integers(n_harmful, size=n_harmful)
        harmless = generator.integers(n_harmless, size=n_harmless)
        induce, kl = scores.induce[:, harmless].mean(1), scores.kl[:, harmless].mean(1)
        passing = _passing(scores.candidates, induce, kl, rule, n_layers)
        if not passing.any():
            wins["none"] += 1
            continue
        winner = scores.candidates[int(np.where(passing, scores.bypass[:, harmful].mean(1), np.inf).argmin())]
        wins[f"{winner.pos},{winner.layer}"] += 1
    none = wins.pop("none", 0) / resamples
    return Stability(resamples, {k: v / resamples for k, v in wins.most_common(Stability.LISTED)}, none)
