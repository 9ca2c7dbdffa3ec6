"""Selection rules and their published presets."""

from __future__ import annotations

from math import inf
from typing import Self

import msgspec

from refusalctl.records.selection import ScoredCandidate, SelectionLimits


class Rule(SelectionLimits, frozen=True):
    """A candidate must pass every limit; among those the lowest bypass score wins."""

    @classmethod
    def of(cls, limits: SelectionLimits) -> Self:
        """The rule with limits that a file holds."""
        return msgspec.convert(limits, cls, from_attributes=True)

    def passes(self, induce: float | None, kl: float | None) -> bool | None:
        """Whether mean scores meet the limits on induce and KL; None where what was measured (None: not) does not tell.

        The layer limit is about the place, not the scores: `layer_limit`.
        """
        met = (self.induces(induce), self.keeps(kl))
        return False if False in met else None if None in met else True

    def induces(self, induce: float | None) -> bool | None:
        """Whether adding the direction makes the model refuse enough (log-odds); True where nothing is asked."""
        if self.min_induce is None:
            return True
        return None if induce is None else bool(induce >= self.min_induce)

    def keeps(self, kl: float | None) -> bool | None:
        """Whether ablating the direction keeps the model's answers to harmless prompts (KL in nats)."""
        if self.max_kl is None:
            return True
        return None if kl is None else bool(kl <= self.max_kl)

    def accepts(self, scored: ScoredCandidate) -> bool | None:
        """`passes` for a row of a score table. Without refusal scores (COSMIC), the test that needs them is left out.

        No layer beyond the limit is scored, so that test is met by being in the table.
        """
        unscored = scored.bypass is None and scored.induce is None
        return self.keeps(scored.kl) if unscored else self.passes(scored.induce, scored.kl)

    def with_limits(self, **limits: float) -> Rule:
        """The same rule with other limits, by their names. An infinite one that all candidates meet is no limit."""
        free = {"max_kl": inf, "min_induce": -inf}
        given: dict[str, float | None] = {n: None if free.get(n) == limit else limit for n, limit in limits.items()}
        if limits.get("max_layer_share") == inf:
            given["max_layer_share"] = 1.0
        return msgspec.structs.replace(self, **given)


PRESETS = {
    # Arditi et al. 2024, section 2.3 and appendix B; code of andyrdt/refusal_direction
    "arditi": Rule("arditi", max_kl=0.1, min_induce=0.0, max_layer_share=0.8),
    # Wang et al. 2025 as published: the induce test is commented out, KL up to 0.2
    "wang": Rule("wang", max_kl=0.2, min_induce=None, max_layer_share=0.8),
}


def layer_limit(max_layer_share: float, n_layers: int) -> int:
    """Layers below this one may be chosen: floor(share * n_layers), as in the published code."""
    return int(max_layer_share * n_layers + 1e-9)  # 0.8 * 35 is 28.000000000000004 or 27.99... by luck
