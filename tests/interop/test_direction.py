"""Headers of directions: what they hold, what is refused, and the model that they belong to."""

from __future__ import annotations

import json

import msgspec
import pytest

from refusalctl.errors import BadInput, DataError
from refusalctl.interop.direction import DirectionHeader, ModelFacts, check_model, read_header

HEADER = DirectionHeader(
    operation="ablate",
    coefficient=1.0,
    layer=2,
    position=-1,
    act_at=(),
    layer_map={"resid_pre.2": 2},
    n_layers=4,
    d_model=32,
    model="org/model",
    revision="abc",
    weights="sample-bf16-v1:1",
    weights_untold=None,
    model_dtype="float32",
    norm="as-read",
    length=2.0,
    points="harmless-to-harmful",
    lang="be",
    artifact="f" * 64,
    written_by="refusalctl 0",
)
FACTS = ModelFacts(4, 32, None, "sample-bf16-v1:1")


def test_a_header_comes_back_as_it_went() -> None:
    assert read_header(json.dumps(HEADER.to_json()), "a") == HEADER


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "header version 2, this refusalctl reads version 1"),
        ({"format": "other"}, "should hold a refusalctl.portable-direction, found 'other'"),
        ({"hook_point": "resid_mid"}, "does not fit"),
        ({"operation": "clamp"}, "does not fit"),
        ({"more": 1}, "does not fit"),
    ],
)
def test_what_is_not_known_is_refused_and_not_guessed(change: dict[str, object], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_header(json.dumps(HEADER.to_json() | change), "a.safetensors")
    with pytest.raises(DataError, match="no JSON object"):
        read_header("[", "a.safetensors")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (FACTS._replace(d_model=16), "expected width 32, found 16"),
        (FACTS._replace(n_layers=5), "expected layers 4, found 5"),
        (FACTS._replace(weights="sample-bf16-v1:2"), "expected weights sample-bf16-v1:1, found sample-bf16-v1:2"),
    ],
)
def test_another_model_is_refused_in_one_line_with_both_sides(facts: ModelFacts, told: str) -> None:
    check_model(HEADER, FACTS, "a")
    with pytest.raises(BadInput, match=told):
        check_model(HEADER, facts, "a", unproven=True)


def test_a_revision_decides_where_no_fingerprint_can_be_compared() -> None:
    plain = msgspec.structs.replace(HEADER, weights=None)
    check_model(plain, ModelFacts(4, 32, "abc", None), "a")
    with pytest.raises(BadInput, match="expected revision abc, found def"):
        check_model(plain, ModelFacts(4, 32, "def", None), "a", unproven=True)
    with pytest.raises(BadInput, match="nothing proves that a belongs to this model"):
        check_model(plain, ModelFacts(4, 32, None, None), "a")
    check_model(plain, ModelFacts(4, 32, None, None), "a", unproven=True)
