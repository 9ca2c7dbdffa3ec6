"""Positions of a model by its configuration."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from refusalctl.errors import ModelError
from refusalctl.model.context import Longest, Positions, check_fits, positions_of

ROPE: dict[str, Any] = {"rope_theta": 1e4, "factor": 4.0}


@pytest.mark.parametrize(
    ("kind", "settings", "most"),
    [
        ("gpt2", {"n_positions": 64}, 64),
        ("opt", {"max_position_embeddings": 64}, 64),
        ("mpt", {"max_seq_len": 64}, 64),
        ("llama", {"max_position_embeddings": 64}, 64),
        ("llama", {"max_position_embeddings": 64, "rope_parameters": ROPE | {"rope_type": "linear"}}, 256),
        ("qwen2", {"max_position_embeddings": 256, "rope_parameters": ROPE | {
            "rope_type": "yarn", "original_max_position_embeddings": 64}}, 256),
        ("llama", {"max_position_embeddings": 256, "rope_parameters": ROPE | {
            "rope_type": "llama3", "original_max_position_embeddings": 64, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0}}, 256),
        ("bloom", {}, None),
        ("mamba", {}, None),
    ],
)  # fmt: skip
def test_the_limit_is_what_the_architecture_calls_it(kind: str, settings: dict[str, Any], most: int | None) -> None:
    assert positions_of(AutoConfig.for_model(kind, **settings)).most == most


def test_a_prompt_without_room_is_named_with_the_numbers_and_what_to_do() -> None:
    limit = Positions(100, "n_positions")
    check_fits(limit, Longest("p-1", 60), 40)
    check_fits(Positions(None), Longest("p-1", 60), 4000)
    with pytest.raises(ModelError, match=r"'p-1' has 60 tokens.*41 may follow: 101.*100 positions") as caught:
        check_fits(limit, Longest("p-1", 60), 41)
    assert "--max-new-tokens 40 or less" in (caught.value.hint or "")
