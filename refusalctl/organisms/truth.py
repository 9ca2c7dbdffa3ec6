"""What an experiment on a plain organism must find, computed from the construction and from nothing else.

That of the hard designs is counted on the built model (`steps/organism_counts.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin
from statistics import fmean

from refusalctl.organisms.design import KINK, N_AXES, TOPIC_AXIS, Design
from refusalctl.organisms.designs import Organism
from refusalctl.organisms.words import HarmfulWord, lexicon
from refusalctl.records.calibration import Finding

Vector = tuple[float, ...]
DECIDED: tuple[Finding, ...] = ("transfers", "does not transfer", "reverses")


@dataclass(frozen=True)
class Truth:
    """`removed`: exact share of the target's harmful prompts that go from refusal to compliance, None if no direction.

    `verdict` is the right answer; `near_margin` marks effects within five points of the margin, where no sample of
    a few hundred prompts can tell, so that `inconclusive` is no miss. `enough`: prompts at which the limits give the
    right answer in 80 % of experiments; None where there is no verdict to give, or no number would do.
    """

    verdict: Finding
    removed: float | None
    near_margin: bool = False
    enough: int | None = None


def _dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _unit(a: Vector) -> Vector:
    length = _dot(a, a) ** 0.5
    return tuple(x / length for x in a)


def written(design: Design, lang: str, word: HarmfulWord | None) -> Vector:
    """What a prompt leaves on the axes at the end-of-instruction tokens; `word` None for a harmless prompt."""
    tongue = design.tongues[lang]
    x = [design.fluency, *[0.0] * (N_AXES - 1)]
    strength = 1.0 if tongue.always else word.strength if word else 0.0
    along = tongue.write
    if word and tongue.angles:
        along = (cos(radians(word.angle)), sin(radians(word.angle)), 0.0, 0.0)
    x = [value + strength * part for value, part in zip(x, along or (0.0,) * N_AXES, strict=True)]
    if word:
        x[TOPIC_AXIS] += design.topic
    return tuple(x)


def outcome(design: Design, lang: str, x: Vector) -> str:
    """How the answer opens when the axes hold `x`."""
    tongue = design.tongues[lang]
    if tongue.angles:
        if sum(max(0.0, value - KINK) for value in x[:2]) > tongue.threshold:
            return "refusal"
    elif tongue.read is not None:
        rest = (x[0] - design.fluency, *x[1:])
        if _dot(tongue.read, rest) > tongue.threshold:
            return "refusal"
    return "degenerate" if tongue.loops and x[0] < design.fluency / 2 else "compliance"


def planted_mean(organism: Organism, lang: str) -> Vector | None:
    """Difference-in-means of the construction, or None where the classes leave no difference."""
    design = organism.design
    harmless = written(design, lang, None)
    rows = [written(design, lang, word) for word in lexicon(organism, lang).harmful]
    mean = tuple(fmean(column) - base for column, base in zip(zip(*rows, strict=True), harmless, strict=True))
    return mean if _dot(mean, mean) > 1e-12 else None


def planted(organism: Organism, lang: str) -> Vector | None:
    """The same, of length 1."""
    mean = planted_mean(organism, lang)
    return None if mean is None else _unit(mean)


def _without(x: Vector, basis: list[Vector]) -> Vector:
    for d in basis:
        along = _dot(d, x)
        x = tuple(value - along * part for value, part in zip(x, d, strict=True))
    return x


def after_ablation(organism: Organism, lang: str, word: HarmfulWord | None, basis: list[Vector]) -> str:
    """Outcome of a prompt with this harmful word (None: a harmless prompt) without the span of `basis`, orthonormal."""
    return outcome(organism.design, lang, _without(written(organism.design, lang, word), basis))


def _outcomes(organism: Organism, lang: str, basis: list[Vector]) -> list[str]:
    return [after_ablation(organism, lang, word, basis) for word in lexicon(organism, lang).harmful]


def selectable(organism: Organism, lang: str) -> bool:
    """Whether selection must find a direction: refusals on harmful prompts alone, and fluent answers without it."""
    design, direction = organism.design, planted(organism, lang)
    if direction is None or design.thinks == "endless":  # no answer is ever reached
        return False
    harmless = written(design, lang, None)
    without = outcome(design, lang, _without(harmless, [direction]))
    return (
        "refusal" in _outcomes(organism, lang, [])
        and outcome(design, lang, harmless) == "compliance"
        and without == "compliance"
    )


def removal(organism: Organism, source: str, target: str, margin: float, rank: int = 1) -> Truth:
    """The verdict of design.md's rule at an unlimited number of prompts."""
    design = organism.design
    before = _outcomes(organism, target, [])
    refused = before.count("refusal") / len(before)
    if not selectable(organism, source):
        return Truth("no direction", None)
    basis = _basis(organism, source, rank)
    after = _outcomes(organism, target, basis)
    moves = list(zip(before, after, strict=True))
    removed = (moves.count(("refusal", "compliance")) - moves.count(("compliance", "refusal"))) / len(moves)
    degenerate = max(before.count("degenerate"), after.count("degenerate")) / len(moves)
    if refused < 2 * margin or degenerate > 0.2 or not design.tongues[target].represented:
        return Truth("uninformative", removed)
    near = abs(abs(removed) - margin) < 0.05
    if removed > margin:
        return Truth("transfers", removed, near)
    if removed < -margin:
        return Truth("reverses", removed, near)
    own = removal(organism, target, target, margin, rank) if source != target else None
    works = own is not None and own.verdict == "transfers"
    return Truth("does not transfer" if works else "inconclusive", removed, near)


def _basis(organism: Organism, source: str, rank: int) -> list[Vector]:
    direction = planted(organism, source)
    assert direction is not None
    if rank == 1:
        return [direction]
    e0, e1 = (tuple(float(i == axis) for i in range(N_AXES)) for axis in (0, 1))
    return [e0, e1]  # rank 2 is asked of the plane alone


def induction(organism: Organism, source: str, target: str, margin: float) -> Truth:
    """Whether adding the source's mean difference makes the target refuse its harmless prompts."""
    if not selectable(organism, source):
        return Truth("no direction", None)
    design = organism.design
    rows = [written(design, source, word) for word in lexicon(organism, source).harmful]
    harmless = written(design, source, None)
    added = tuple(fmean(column) - base for column, base in zip(zip(*rows, strict=True), harmless, strict=True))
    base = written(design, target, None)
    before = outcome(design, target, base)
    after = outcome(design, target, tuple(x + y for x, y in zip(base, added, strict=True)))
    if before != "compliance":
        return Truth("uninformative", None)
    if after == "refusal":
        return Truth("transfers", 1.0)
    own = induction(organism, target, target, margin) if source != target else None
    return Truth("does not transfer" if own is not None and own.verdict == "transfers" else "inconclusive", 0.0)
