"""How often `select --screen` chooses what the full grid chooses, over organisms.

`python -m benchmarks.screening_choices [--survivors 3]`: every design in three architectures and two languages, about a
minute on one core. Few survivors make it harder: organisms have 12 candidates, real grids hundreds. Settings where
nothing passes the rule have no choice and do not count.
"""

from __future__ import annotations

from typing import get_args

import torch

from benchmarks import command
from benchmarks.selection_speed import Setting, chosen, parsed, searched, setting
from refusalctl.errors import BadInput, EmptySelection
from refusalctl.organisms.designs import DESIGNS, Organism
from refusalctl.records.selection import Candidate, Search
from refusalctl.steps.selection import search

ARCHITECTURES = ("llama", "qwen2", "mistral")


def asked(organism: Organism, lang: str) -> Setting:
    name = organism.name
    given = parsed(["--model", name, "--data", name, "--lang", lang, "--n", "16", "--n-train", "32", "--layers", "1:5"])
    found = setting(given)
    # a place where both classes are the same holds rounding errors, which `select` leaves out
    return found._replace(vectors={c: v for c, v in found.vectors.items() if v.norm() > 1e-3})


def choices(found: Setting) -> dict[Search, Candidate]:
    """By search. Raises `EmptySelection` where nothing can be chosen."""
    n_layers = found.model.residual.n_layers
    return {how: chosen(searched(found, how), found.rule, n_layers) for how in get_args(Search)}


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--survivors", type=int, default=3)
    search.SURVIVORS = parser.parse_args().survivors
    torch.set_num_threads(1)
    n = 0
    same: dict[Search, int] = {"prune": 0, "screen": 0}
    for design in DESIGNS.values():
        for architecture in ARCHITECTURES:
            for lang in design.langs[:2]:
                organism = Organism(design, architecture, 0)
                try:
                    found = choices(asked(organism, lang))
                except (EmptySelection, BadInput):
                    continue
                n += 1
                for how in same:
                    same[how] += found[how] == found["full"]
                    if found[how] != found["full"]:
                        print(f"{organism.name} {lang}: {how} {tuple(found[how])}, full {tuple(found['full'])}")
    print(f"{n} settings, the full grid's choice: {same}, {search.SURVIVORS} survivors at a time")


if __name__ == "__main__":
    main()
