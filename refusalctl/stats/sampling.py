"""Which completions people label: a stratified draw with a known weight for each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from refusalctl.errors import BadInput

Key = TypeVar("Key", bound=Hashable)


def allocate(sizes: Mapping[Key, int], n: int) -> dict[Key, int]:
    """How many to draw from each stratum: equally many, as far as they go, so that rare outcomes are seen.

    What small strata cannot give goes to the others. Raises `BadInput` when not every stratum can have one.
    """
    if n < len(sizes):
        raise BadInput(
            f"{n} completions cannot cover {len(sizes)} strata (judge outcome x condition)", hint="draw more with --n"
        )
    drawn = dict.fromkeys(sizes, 0)
    left = min(n, sum(sizes.values()))
    while left:
        open_ = sorted((key for key in sizes if drawn[key] < sizes[key]), key=lambda key: (drawn[key], str(key)))
        for key in open_[:left]:
            drawn[key] += 1
        left -= min(left, len(open_))
    return drawn


def draw(strata: Mapping[Key, Sequence[int]], n: int, seed: int) -> dict[Key, list[int]]:
    """Members drawn from each stratum without replacement, by a generator of this seed."""
    rng = np.random.default_rng(seed)
    wanted = allocate({key: len(members) for key, members in strata.items()}, n)
    return {
        key: sorted(int(i) for i in rng.choice(np.array(members), wanted[key], replace=False))
        for key, members in sorted(strata.items(), key=lambda item: str(item[0]))
    }
