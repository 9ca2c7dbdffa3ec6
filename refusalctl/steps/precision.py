"""`doctor --precision`: a model in half precision against itself in float32, on sample prompts of every language."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from refusalctl.data import sets
from refusalctl.errors import BadInput
from refusalctl.records.rows import KINDS
from refusalctl.steps.step import Workbench

if TYPE_CHECKING:
    from refusalctl.stats.precision import Deviation

PER_CLASS = 4  # prompts per language and class


def compare_precision(bench: Workbench, data: str = sets.SAMPLE_SET) -> Deviation:
    """The model of `bench` in its dtype against float32; one after the other, so that one of them needs room.

    Raises `BadInput` where the dtype is float32 itself.
    """
    from refusalctl.model.precision import outputs
    from refusalctl.stats.precision import deviation

    if bench.resolved_dtype == "float32":
        raise BadInput("there is nothing to compare: the dtype is float32", hint="add --dtype bfloat16")
    texts: dict[str, list[str]] = {
        kind: [p.text for lang in sets.set_languages(data) for p in sets.usable(data, lang, kind, "val")[:PER_CLASS]]
        for kind in KINDS
    }
    found = []
    for each in (replace(bench, machine=bench.machine.changed(dtype="float32")), bench):
        found.append(outputs(each.model, texts, each.machine.batch_size))
        each.release()
    plain, half = found
    return deviation((plain.logprobs, half.logprobs), (plain.streams, half.streams))
