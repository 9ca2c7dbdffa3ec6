"""What is true of an organism, counted: intervene on the built model as planted, run it, read its answers.

Nothing here comes from the pipeline that is graded: directions are what the construction writes, prompts are drawn
anew, and answers are read by the words that they were made of, not by a judge.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from refusalctl.organisms import words
from refusalctl.organisms.designs import Organism
from refusalctl.organisms.truth import Truth
from refusalctl.records.calibration import Finding, Question
from refusalctl.stats.advice import prompts_needed
from refusalctl.stats.mover import Part, part_of
from refusalctl.stats.paired import Moves, lost, moves
from refusalctl.stats.verdict import INDUCTION, REMOVAL, Effect, unusable

if TYPE_CHECKING:
    from torch import Tensor

    from refusalctl.model.chat_model import ChatModel
    from refusalctl.model.hooks import Intervention

N_PROMPTS = 200  # of each class: every harmful word at least once, so that shares are those of the design
NEAR = 0.05  # of the margin: no sample of a few hundred prompts can tell
EFFECTS: dict[Question, Effect] = {"removal": REMOVAL, "induction": INDUCTION}

Outcomes = dict[str, str]


class Counted(NamedTuple):
    """One question about one pair of languages, on the whole population: outcomes before and after."""

    before: Outcomes
    after: Outcomes
    effect: Effect

    @property
    def moved(self) -> float:
        return moves(self.before, self.after, self.effect.origin, self.effect.goal).difference

    @property
    def lost(self) -> float:
        return lost(self.before, self.after, self.effect.origin) / len(self.before)

    def share(self, outcome: str) -> float:
        """Of the prompts before."""
        return list(self.before.values()).count(outcome) / len(self.before)


class OrganismCounts:
    """An organism, built and opened once."""

    def __init__(self, organism: Organism, n: int = N_PROMPTS) -> None:
        self.organism, self.n = organism, n
        self._known: dict[tuple[str, ...], Outcomes] = {}

    @cached_property
    def model(self) -> ChatModel:
        from refusalctl.model.files.resolve import resolve
        from refusalctl.model.load import load

        return load(resolve(self.organism.name))

    def outcomes(self, lang: str, kind: str, how: str = "none", source: str = "") -> Outcomes:
        """By prompt id, without an intervention or with the planted direction of `source`."""
        key = (lang, kind, how, source)
        if key not in self._known:
            self._known[key] = self._answered(lang, kind, self._intervention(how, source, lang))
        return self._known[key]

    def _encoded(self, lang: str, kind: str) -> list[list[int]]:
        rows = words.population(self.organism, kind, self.n)
        return [self.model.chat.encode(words.say(self.organism, row, lang)) for row in rows]

    def _answered(self, lang: str, kind: str, intervention: Intervention) -> Outcomes:
        from refusalctl.model.generate import complete

        rows, found = words.population(self.organism, kind, self.n), Outcomes()
        encoded = self._encoded(lang, kind)
        for indices, answers, checks in complete(self.model, encoded, intervention, max_new_tokens=8, batch_size=256):
            checks.verify()
            for i, answer in zip(indices, answers, strict=True):
                found[rows[i].id] = words.read(self.organism.design, lang, answer.text)
        return {row.id: found[row.id] for row in rows}

    def _intervention(self, how: str, source: str, lang: str) -> Intervention:
        from refusalctl.model.files.organism_weights import WORK_LAYER, planted_vector
        from refusalctl.model.hooks import Intervention

        if how == "none":
            return Intervention()
        planted = planted_vector(self.organism, source)
        assert planted is not None
        vector = planted.float()
        if how == "affine":
            return Intervention("affine", vector, mean=self._harmless_mean(lang))
        return Intervention("ablate", vector) if how == "ablate" else Intervention("add", vector, layer=WORK_LAYER + 1)

    def _harmless_mean(self, lang: str) -> Tensor:
        """Where the stream of harmless prompts is behind the layer that does the work, at the last token."""
        import torch

        from refusalctl.model.files.organism_weights import WORK_LAYER
        from refusalctl.model.forward import activations

        found = [
            rows[:, 0, WORK_LAYER + 1]
            for _, rows in activations(self.model, self._encoded(lang, "harmless"), [-1], 256)
        ]
        return torch.cat(found).double().mean(0).float()

    def count(self, source: str, target: str, question: Question) -> Counted:
        kind, how = ("harmful", "ablate") if question == "removal" else ("harmless", "add")
        return Counted(self.outcomes(target, kind), self.outcomes(target, kind, how, source), EFFECTS[question])

    def selectable(self, lang: str) -> bool:
        """Whether selection must find a direction: refusals on harmful prompts, answers to harmless ones, and these
        without the direction too."""
        plain, without = (list(self.outcomes(lang, "harmless", how, lang).values()) for how in ("none", "ablate"))
        refused = "refusal" in self.outcomes(lang, "harmful").values()
        return refused and all(rows.count("compliance") >= 0.9 * len(rows) for rows in (plain, without))

    def truth(self, source: str, target: str, question: Question, margin: float) -> Truth:
        """The verdict of design.md's rule at an unlimited number of prompts, with controls that are beaten."""
        if not self.selectable(source):
            return Truth("no direction", None)
        found = self.count(source, target, question)
        near = abs(abs(found.moved) - margin) < NEAR
        verdict = self._verdict(found, source, target, question, margin)
        part = None
        if verdict == "does not transfer":
            own = self.count(target, target, question)
            part = part_of(found.before, found.after, own.after, found.effect.origin, found.effect.goal)
        return Truth(verdict, found.moved, near, enough(verdict, found, part, margin))

    def _verdict(self, found: Counted, source: str, target: str, question: Question, margin: float) -> Finding:
        if any(unusable(rows.values()) for rows in (found.before, found.after)):
            return "uninformative"
        if found.share(found.effect.goal if found.moved < -margin else found.effect.origin) < 2 * margin:
            return "uninformative"  # no room for what is claimed
        if found.moved > margin:
            return "transfers"
        if question == "removal" and self._other_zero(found, source, target, margin):
            return "inconclusive"  # ablation to 0 says one thing, to the target's own harmless mean another
        if found.moved < -margin:
            return "reverses"
        own = self.count(target, target, question) if self.selectable(target) and source != target else None
        if own is None or self._verdict(own, target, target, question, margin) != "transfers":
            return "inconclusive"
        # what was lost to other outcomes may be removal; and a large part of the own effect is no failure to transfer
        widest = max(found.moved, found.lost)
        return "does not transfer" if widest < margin and widest < own.moved / 2 else "inconclusive"

    def _other_zero(self, found: Counted, source: str, target: str, margin: float) -> bool:
        around = self.outcomes(target, "harmful", "affine", source)
        return moves(found.before, around).difference > margin


def enough(verdict: Finding, found: Counted, part: Part | None, margin: float) -> int | None:
    """Prompts at which 80 % of experiments give the true verdict by their limits; None where no verdict is to give."""
    if verdict not in ("transfers", "reverses", "does not transfer"):
        return None
    seen = moves(found.before, found.after, found.effect.origin, found.effect.goal)
    n = seen.n
    shares = Moves(seen.forth / n, seen.back / n, 0, 1.0, None, 0, seen.perhaps / n, seen.perhaps_back / n)
    return prompts_needed(verdict, shares, part, margin)


@lru_cache(maxsize=2)
def counts_of(organism: Organism) -> OrganismCounts:
    """The same object while an organism's trials follow each other."""
    return OrganismCounts(organism)
