"""`doctor --precision`: a model in half precision or quantised against float32, on sample prompts of every language."""

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


def compare_precision(bench: Workbench, data: str = sets.SAMPLE_SET, against: str | None = None) -> Deviation:
    """The model of `bench` in its dtype against float32; one after the other, so that one of them needs room.

    `against`: the float32 model to compare with where it is another one, such as the original of a quantised
    checkpoint. Raises `BadInput` where there is nothing to compare, or the two are not of one kind.
    """
    from refusalctl.model.precision import outputs
    from refusalctl.stats.precision import deviation

    _check_comparable(bench, against)
    texts: dict[str, list[str]] = {
        kind: [p.text for lang in sets.set_languages(data) for p in sets.usable(data, lang, kind, "val")[:PER_CLASS]]
        for kind in KINDS
    }
    original = bench.machine.changed(dtype="float32", model=against or bench.machine.model)
    found, asked = [], []
    for each in (replace(bench, machine=original), bench):
        asked.append([each.model.chat.encode(text) for kind in KINDS for text in texts[kind]])
        found.append(outputs(each.model, texts, each.machine.batch_size))
        each.release()
    plain, half = found
    if asked[0] != asked[1] or plain.logprobs.shape != half.logprobs.shape:
        raise BadInput(
            f"{bench.machine.model} and {against} do not read prompts alike: other tokens, or another chat template",
            hint="give the model that the quantised one was made from; --chat-template FILE holds for both",
        )
    if any(plain.streams[kind].shape != half.streams[kind].shape for kind in KINDS):
        raise BadInput(
            f"{bench.machine.model} and {against} have other widths or numbers of layers",
            hint="give the model that the quantised one was made from",
        )
    return deviation((plain.logprobs, half.logprobs), (plain.streams, half.streams))


def _check_comparable(bench: Workbench, against: str | None) -> None:
    if against is not None:
        return
    if bench.ref.rounded is not None:
        raise BadInput(
            f"{bench.ref.name} is quantised by {bench.ref.rounded!r}: its own numbers in float32 would not show "
            "what that changed",
            hint="add --against MODEL, the model that it was made from",
        )
    if bench.resolved_dtype == "float32":
        raise BadInput("there is nothing to compare: the dtype is float32", hint="add --dtype bfloat16")
