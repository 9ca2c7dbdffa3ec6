"""Refusal openings: the token sequences by which a model's refusals begin and its other answers do not.

Published code hard-codes one or two first tokens per language and reused the Russian ones for Bashkir,
Belarusian and Tajik; byte-level tokenizers open most Cyrillic answers with the same token. So openings are
derived from the model's own judged answers, as long as needed to tell the two apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from refusalctl.errors import EmptySelection

MAX_TOKENS = 8
MIN_REFUSALS = 5
MIN_SHARE = 0.04
MAX_OTHER_SHARE = 0.05


@dataclass(frozen=True)
class DerivedOpenings:
    """`sequences` of token ids, none the beginning of another, with the number of refusals each opens.

    `coverage` is the share of judged refusals that open with one of them; `false_share` the share of the
    other answers that do.
    """

    sequences: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    n_refusals: int
    n_others: int
    coverage: float
    false_share: float


def derive(refusals: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> DerivedOpenings:
    """Shortest prefixes (up to 8 tokens) of refusals that at most 5 % of the other answers share.

    Because the rule looks at the prefix alone, no chosen prefix begins another, so their probabilities add up.
    Prefixes that open less than 4 % of refusals are left out. Raises `EmptySelection` with fewer than 5
    refusals, without other answers, or when no prefix tells them apart.
    """
    if len(refusals) < MIN_REFUSALS:
        raise EmptySelection(
            f"the model refused {len(refusals)} train prompts, at least {MIN_REFUSALS} are needed to derive how its "
            "refusals open",
            hint="use more train prompts (--n-train), or a model that refuses in this language",
        )
    if not others:
        raise EmptySelection("every train answer is a refusal, harmless prompts too: there is no contrast to select on")
    chosen = Counter(prefix for r in refusals if (prefix := _shortest(tuple(r), others)) is not None)
    kept = {p: c for p, c in sorted(chosen.items(), key=lambda i: (-i[1], i[0])) if c >= MIN_SHARE * len(refusals)}
    if not kept:
        raise EmptySelection(
            f"no opening of up to {MAX_TOKENS} tokens tells the {len(refusals)} refusals from the other answers",
            hint="the judge may be wrong in this language: look at a few labels",
        )
    false = sum(any(tuple(o[: len(p)]) == p for p in kept) for o in others)
    return DerivedOpenings(
        tuple(kept),
        tuple(kept.values()),
        len(refusals),
        len(others),
        sum(kept.values()) / len(refusals),
        false / len(others),
    )


def _shortest(refusal: tuple[int, ...], others: Sequence[Sequence[int]]) -> tuple[int, ...] | None:
    for length in range(1, min(MAX_TOKENS, len(refusal)) + 1):
        prefix = refusal[:length]
        shared = sum(tuple(o[:length]) == prefix for o in others)
        if shared <= MAX_OTHER_SHARE * len(others):
            return prefix
    return None
