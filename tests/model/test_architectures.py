"""Interventions are exact in every decoder family: the six proofs, against plain code and transformers itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch

from refusalctl.errors import ModelError
from refusalctl.model import forward
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Intervention, intervene
from refusalctl.model.residual import find_residual
from tests import exactness, families
from tests.exactness import DTYPES, KINDS, LIMITS, TEXTS, interventions
from tests.families import FAMILIES, build, direction

# a family on one worker, which builds its models once
NAMES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FAMILIES]
IDS = [str(d).removeprefix("torch.") for d in DTYPES]
PREFIX_POSITIONS = (-3, -1)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@cache
def chat_model(name: str, dtype: torch.dtype = torch.float32) -> ChatModel:
    return exactness.chat_model(name, dtype)


def test_there_are_at_least_sixteen_families() -> None:
    assert len({family.kind for family in FAMILIES.values()}) >= 16


@pytest.mark.parametrize("dtype", DTYPES, ids=IDS)
@pytest.mark.parametrize("name", NAMES)
def test_collected_resid_pre_equals_hidden_states(name: str, dtype: torch.dtype) -> None:
    assert exactness.recorded(chat_model(name, dtype)) == 0.0


@pytest.mark.parametrize("dtype", DTYPES, ids=IDS)
@pytest.mark.parametrize("name", NAMES)
def test_the_stream_is_where_an_intervention_puts_it_at_every_block_and_the_final_norm(
    name: str, dtype: torch.dtype
) -> None:
    model = chat_model(name, dtype)
    for kind in KINDS:
        assert exactness.left_over(name, model, interventions(dtype)[kind]) < LIMITS[dtype].projection


@pytest.mark.parametrize("dtype", DTYPES, ids=IDS)
@pytest.mark.parametrize("name", NAMES)
def test_ablated_logits_equal_those_of_orthogonalised_weights(name: str, dtype: torch.dtype) -> None:
    model, ids = chat_model(name, dtype), exactness.ids_of(chat_model(name, dtype))
    ablation = interventions(dtype)["ablate"]
    ablated, plain = (exactness.logits_under(model, asked, ids) for asked in (ablation, Intervention()))
    assert float((ablated - plain).abs().max() / plain.std()) > 0.5  # it is no small thing that agrees
    found = exactness.against_weights(name, model, direction())
    if found is None:
        assert FAMILIES[name].reason or (FAMILIES[name].experts and dtype == torch.bfloat16)
        return
    assert found < LIMITS[dtype].weights


@pytest.mark.parametrize("name", NAMES)
def test_subspace_ablation_equals_weights_orthogonal_to_all_its_directions(name: str) -> None:
    found = exactness.against_weights(name, chat_model(name), torch.stack([direction(1), direction(2)]))
    assert found is None or found < LIMITS[torch.float32].weights


@pytest.mark.parametrize("name", NAMES)
def test_partial_ablation_equals_weights_that_write_that_share_less_and_its_stream_is_checked(name: str) -> None:
    model, rows = chat_model(name), torch.stack([direction(1), direction(2)])
    for asked in (rows[0], rows):
        found = exactness.against_weights(name, model, asked, strength=0.37)
        assert found is None or found < LIMITS[torch.float32].weights
    ids = exactness.ids_of(model)
    whole, part, none = (
        exactness.logits_under(model, asked, ids)
        for asked in (
            Intervention("ablate", rows[0]), Intervention("ablate", rows[0], strength=0.37), Intervention()
        )
    )  # fmt: skip
    assert min(float((part - other).abs().max() / none.std()) for other in (whole, none)) > 0.05


@pytest.mark.parametrize(
    ("name", "embedding", "scale"),
    [("Llama", "embed_tokens", 1.0), ("Gemma", "embed_tokens", 32**0.5), ("Granite", "embed_tokens", 3.0),
     ("GPT-2", "wte", 1.0), ("OPT", "embed_tokens", 1.0), ("Phi", "embed_tokens", 1.0),
     ("Mixtral", "embed_tokens", 1.0)],
)  # fmt: skip
def test_affine_ablation_equals_orthogonalised_weights_and_a_constant_in_the_embedding(
    name: str, embedding: str, scale: float
) -> None:
    """r_hat . stream is 0 in the edited model; one constant along r_hat, added where the stream begins, stays."""
    model = chat_model(name)
    asked = interventions()["affine"]
    assert asked.mean is not None
    r_hat = direction() / direction().norm()
    edited = families.orthogonalise(name, build(name), direction())
    table = next(p for label, p in edited.named_parameters() if label.endswith(f"{embedding}.weight"))
    table += (r_hat * (r_hat @ asked.mean.double()) / scale).float()
    ids = exactness.ids_of(model)
    expected = edited(ids, use_cache=False).logits.double()
    found = exactness.logits_under(model, asked, ids)
    assert float((found - expected).abs().max() / expected.std()) < LIMITS[torch.float32].weights


@pytest.mark.parametrize("name", NAMES)
def test_padding_batch_size_and_order_change_no_score(name: str) -> None:
    model = chat_model(name)
    everywhere = interventions()["affine"]
    for asked in (everywhere, replace(everywhere, positions=PREFIX_POSITIONS)):
        alone = exactness.scores(model, asked, (0, 1, 2, 3), 1)
        together = exactness.scores(model, asked, (3, 1, 0, 2), 3)
        torch.testing.assert_close(together, alone, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_opening_scores_equal_token_by_token_ones(name: str) -> None:
    model, asked = chat_model(name), interventions()["ablate"]
    opening, prompt = [9, 11, 200], model.chat.encode(TEXTS[0])
    found = forward.opening_logprob(model, [prompt], [opening], asked, 1)
    logits = exactness.logits_under(model, asked, torch.tensor([prompt + opening]))[0].log_softmax(-1)
    expected = sum(logits[len(prompt) - 1 + i, token] for i, token in enumerate(opening))
    assert float(found[0]) == pytest.approx(float(expected), abs=1e-4)


def hooks_of(model: ChatModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())


@pytest.mark.parametrize("name", NAMES)
def test_no_hook_survives_an_exception_inside_the_model(name: str) -> None:
    model, ids = chat_model(name), exactness.ids_of(chat_model(name))
    before, plain = hooks_of(model), model.model(ids, use_cache=False).logits

    def stop(*_: object) -> None:
        raise RuntimeError("stop")

    for asked in (interventions()["affine"], interventions()["add"]):
        handle = model.residual.blocks[1].register_forward_pre_hook(stop)
        with pytest.raises(RuntimeError, match="stop"):
            exactness.logits_under(model, replace(asked, positions=(-1,)), ids)
        with pytest.raises(RuntimeError, match="stop"):
            list(forward.activations(model, [ids[0].tolist()], [-1], 1))
        handle.remove()
        assert hooks_of(model) == before
    assert torch.equal(model.model(ids, use_cache=False).logits, plain)


def greedy(model: ChatModel, prompt: list[int], asked: Intervention, n: int) -> list[int]:
    """Greedy answer, recomputed from the start for every token, one prompt at a time."""
    ids = list(prompt)
    for _ in range(n):
        with intervene(model.residual, asked, len(prompt)):
            token = int(model.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in model.eos_ids:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", NAMES)
def test_cached_generation_equals_recomputation(name: str) -> None:
    model = chat_model(name)
    encoded = [model.chat.encode(text) for text in TEXTS[1:3]]
    kinds = interventions()
    for asked in (kinds["affine"], replace(kinds["affine"], positions=PREFIX_POSITIONS), kinds["add"]):
        found = {}
        for indices, answers, _ in complete(model, encoded, asked, max_new_tokens=3, batch_size=2):
            found.update(zip(indices, answers, strict=True))
        for i, prompt in enumerate(encoded):
            assert found[i].ids == greedy(model, prompt, asked, 3), (asked.kind, asked.positions)


# --- the probe --------------------------------------------------------------------------------------------

WRITES = {
    "BLOOM": {("self_attention.dense", "mlp.dense_4h_to_h")},
    "MPT": {("attn", "ffn.down_proj")},
    "OPT": {("self_attn", "fc2")},
    "Phi": {("self_attn", "mlp")},
    "Falcon": {("self_attention", "mlp")},
    "GLM-4": {("post_self_attn_layernorm", "post_mlp_layernorm")},
    "Granite MoE, shared": {("self_attn", "block_sparse_moe", "shared_mlp")},
    "Gemma 4": {("post_attention_layernorm", "post_feedforward_layernorm", "post_per_layer_input_norm")},
    "Qwen3-Next": {("linear_attn", "mlp"), ("self_attn", "mlp")},
}


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
@pytest.mark.parametrize("name", WRITES)
def test_the_probe_finds_the_same_writes_in_every_dtype(name: str, dtype: torch.dtype) -> None:
    """A write more, such as a norm's output, would leave no trace in the projection and yet change the model."""
    assert set(find_residual(build(name, dtype)).write_names) == WRITES[name]


def test_a_block_that_scales_its_input_is_told_apart_from_one_that_does_not() -> None:
    assert set(chat_model("Granite").residual.scales) == {1.0}
    assert chat_model("Gemma 4").residual.scales == pytest.approx([0.8] * 3)


@pytest.mark.parametrize(
    ("kind", "settings"), [("minimax", {"num_local_experts": 2}), ("opt", {"do_layer_norm_before": False})]
)
def test_an_architecture_whose_stream_is_no_sum_is_refused_by_name(kind: str, settings: dict[str, object]) -> None:
    """MiniMax and OPT-350m normalise the stream itself: there is nothing to ablate a write from."""
    family = FAMILIES["OPT"]._replace(kind=kind, settings=FAMILIES["OPT"].settings | settings)
    families.FAMILIES[f"refused {kind}"] = family
    try:
        model = build(f"refused {kind}")
    finally:
        del families.FAMILIES[f"refused {kind}"]
    with pytest.raises(ModelError, match=f"(?i){kind}forcausallm: the writes to the residual stream were not found"):
        find_residual(model)


def test_a_write_between_blocks_is_refused() -> None:
    model = build("Llama")
    model.model.layers[1].register_forward_pre_hook(lambda _m, args: (args[0] + 1.0, *args[1:]))
    with pytest.raises(ModelError, match="the stream changes between blocks 0 and 1"):
        find_residual(model)


def test_a_vision_tower_with_as_many_layers_is_not_taken_for_the_decoder() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 260}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4)
    residual = find_residual(AutoModelForCausalLM.from_config(config).eval())
    assert residual.blocks == list(residual.root.get_decoder().layers)  # type: ignore[operator, union-attr]
