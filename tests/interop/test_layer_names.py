"""Layers under other tools' names. The numbers are proved on a model in `benchmarks.round_trips`."""

from __future__ import annotations

import pytest

from refusalctl.errors import BadInput, DataError
from refusalctl.interop.layer_names import GGUF, NNTERP, STEERING, TRANSFORMER_LENS, layers_of


def test_names_of_the_stream_that_enters_block_13() -> None:
    named = [each.name(13) for each in (TRANSFORMER_LENS, NNTERP, STEERING, GGUF)]
    assert named == ["blocks.13.hook_resid_pre", "layers_input.13", "layer_activations.12", "direction.12"]
    assert [layers_of([name], "a")[1] for name in named] == [{13: name} for name in named]
    assert layers_of(["blocks.12.hook_resid_post"], "a") == (
        "transformer-lens",
        {13: "blocks.12.hook_resid_post"},
    )


def test_a_layer_that_a_tool_cannot_reach_is_refused() -> None:
    with pytest.raises(BadInput, match="the first is the stream that enters block 2"):
        GGUF.name(1)
    with pytest.raises(BadInput, match="the first is the stream that enters block 1"):
        STEERING.name(0)
    assert STEERING.name(1) == "layer_activations.0"


@pytest.mark.parametrize(
    "names", [["weight"], ["direction.0"], ["blocks.3.hook_resid_mid"], ["layers_input.1", "direction.1"], []]
)
def test_names_that_say_no_layer_or_two_conventions_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError):
        layers_of(names, "a.safetensors")


def test_one_stream_under_two_names_is_refused() -> None:
    with pytest.raises(DataError, match="enters block 3 twice"):
        layers_of(["blocks.3.hook_resid_pre", "blocks.2.hook_resid_post"], "a")
