"""What a plan cannot deliver, told before the first pass: languages, numbers of prompts, positions and layers.

A model's layers and template come from its small files (`Workbench.small`); no weights are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refusalctl.data import sets
from refusalctl.errors import BadInput
from refusalctl.records.rows import KINDS, SPLITS
from refusalctl.steps.prompt_rows import encoded, rows_of
from refusalctl.steps.prompts import draw_prompts

if TYPE_CHECKING:
    from refusalctl.steps.step import Workbench
    from refusalctl.store.store import Artifact


def check_matrix(bench: Workbench) -> None:
    """Every language of a matrix is in the set, and every split and class has the prompts that are asked for.

    Raises one `BadInput` with all that is lacking.
    """
    asked = bench.settings
    data = asked.prompts.data
    sets.check_has(data, asked.langs)
    foreseen = bench.planning()
    complaints: dict[str, BadInput] = {}
    for split in SPLITS:
        for kind in KINDS:
            for lang in asked.langs if split != "test" else asked.targets:
                if (split, kind) == ("test", "harmless") and not sets.usable(data, lang, kind, split):
                    continue  # a target without a baseline on harmless prompts: a note says so
                try:
                    draw_prompts(foreseen, lang, kind, split)
                except BadInput as error:
                    complaints.setdefault(error.message, error)
    if complaints:
        raise BadInput("; ".join(complaints), hint=next(iter(complaints.values())).hint)


def n_layers(bench: Workbench) -> int:
    """Layers of the model at hand, by its configuration."""
    return int(bench.small[0].get_text_config().num_hidden_layers)


def check_layers(bench: Workbench, layers: Sequence[int] | None) -> None:
    """Raises `BadInput` for a layer that the model does not have."""
    beyond = [layer for layer in layers or () if not 0 <= layer < n_layers(bench)]
    if beyond:
        raise BadInput(f"layer {beyond[0]} is not there: the model has layers 0 to {n_layers(bench) - 1}")


def end_of_instruction(bench: Workbench, wanted: Sequence[int] | None) -> list[int]:
    """The end-of-instruction positions to look at, all where none are named. Raises `BadInput` for one that the model's
    template does not have."""
    return chosen_positions(bench.small[1].positions, wanted)


def check_tokens(bench: Workbench, prompts: Artifact, positions: Sequence[int] | None) -> None:
    """Raises `BadInput` for the shortest prompt that has no token at one of `positions`, counted from its end."""
    if positions is None:
        return
    read = encoded(bench.small[1], rows_of(prompts))
    n, name = min((len(prompt.ids), name) for name, prompt in read.items())
    if min(positions) < -n:
        raise BadInput(
            f"prompt {name} has {n} tokens, and so no position {min(positions)}", hint=f"-{n} to -1 are there"
        )


def chosen_positions(available: list[int], wanted: Sequence[int] | None) -> list[int]:
    """`wanted` in order, checked against a template's end-of-instruction positions."""
    if wanted is None:
        return available
    unknown = sorted(set(wanted) - set(available))
    if unknown:
        raise BadInput(
            f"position {unknown[0]} is not an end-of-instruction position of this model's template",
            hint=f"it has {available[0]} to -1",
        )
    return sorted(wanted)
