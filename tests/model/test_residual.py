"""The residual stream: found where each architecture writes it, recorded as transformers has it, ablated everywhere."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from refusalctl.errors import BadInput, ModelError
from refusalctl.model import forward
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files.organism import folder
from refusalctl.model.hooks import Intervention, ablate, intervene
from refusalctl.model.residual import find_residual, unit
from refusalctl.organisms.designs import parse
from tests import tiny

TEXTS = ("Name a colour.", "Чаму неба блакітнае?", "Hi")


def chat_model(architecture: str = "llama") -> ChatModel:
    return ChatModel(tiny.model(architecture).requires_grad_(False), tiny.tokenizer(), None)


def direction(d_model: int = 32) -> torch.Tensor:
    return torch.randn(d_model, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_writes_are_the_modules_whose_outputs_are_added(architecture: str) -> None:
    assert set(find_residual(tiny.model(architecture)).write_names) == {tiny.WRITES[architecture]}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_recorded_resid_pre_equals_hidden_states_of_the_unpadded_prompt(architecture: str) -> None:
    model = chat_model(architecture)
    encoded = [model.chat.encode(text) for text in TEXTS]
    positions = [*model.chat.positions, model.chat.inst_position]
    found = torch.full((len(TEXTS), len(positions), 3, 32), float("nan"))
    for indices, rows in forward.activations(model, encoded, positions, batch_size=2):
        found[indices] = rows
    for i, ids in enumerate(encoded):
        states = model.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer in range(3):
            torch.testing.assert_close(found[i, :, layer], states[layer][0, positions], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_ablation_leaves_no_projection_anywhere_in_the_stream(architecture: str) -> None:
    model, r = chat_model(architecture), direction()
    ids = torch.tensor([model.chat.encode(TEXTS[1])])
    with intervene(model.residual, Intervention("ablate", r)) as checks:
        states = model.model(ids, output_hidden_states=True).hidden_states
    for state in states[:-1]:  # the last entry is behind the final norm
        share = (state @ unit(r)).abs() / state.norm(dim=-1)
        assert float(share.max()) < 1e-5
    assert checks.max_projection is not None
    assert checks.max_projection < 1e-5
    assert checks.fired == 1 + 2 * 3


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "phi3", "gemma"])
def test_ablation_equals_orthogonalised_weights(architecture: str) -> None:
    """Arditi et al. 2024, appendix E: W' = W - r r^T W for all that writes to the stream."""
    model, r_hat = chat_model(architecture), unit(direction())
    ids = torch.tensor([model.chat.encode(TEXTS[0])])
    with intervene(model.residual, Intervention("ablate", direction())):
        hooked = model.model(ids).logits
    edited = tiny.model(architecture)
    edited.lm_head.weight = torch.nn.Parameter(edited.lm_head.weight.detach().clone())
    edited.config.tie_word_embeddings = False
    project = torch.eye(32) - torch.outer(r_hat, r_hat)
    embedding = edited.get_input_embeddings().weight
    with torch.no_grad():
        embedding.copy_(embedding @ project)
        for block in edited.model.layers:
            for module in (block.self_attn.o_proj, block.mlp.down_proj):
                module.weight.copy_(project @ module.weight)
                if module.bias is not None:
                    module.bias.copy_(project @ module.bias)
        torch.testing.assert_close(hooked, edited(ids).logits, atol=2e-4, rtol=1e-4)


def test_ablating_twice_is_ablating_once() -> None:
    x, r_hat = torch.randn(4, 7, 32, generator=torch.Generator().manual_seed(2)), unit(direction())
    once = ablate(x, r_hat)
    torch.testing.assert_close(ablate(once, r_hat), once)
    assert float((once @ r_hat).abs().max()) < 1e-5
    assert not torch.equal(once, x)


def test_addition_changes_the_stream_at_its_layer_by_coeff_times_r() -> None:
    model, r = chat_model(), direction()
    ids = torch.tensor([model.chat.encode(TEXTS[0])])
    before = model.model(ids, output_hidden_states=True).hidden_states
    with intervene(model.residual, Intervention("add", r, layer=1, coeff=2.0)):
        after = model.model(ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(after[0], before[0])
    # transformers records a block's input before our hook changes it, so the sum shows one block later
    block = model.residual.blocks[1]
    seen = {}
    handle = block.register_forward_pre_hook(lambda _m, a: seen.setdefault("input", a[0]))
    with intervene(model.residual, Intervention("add", r, layer=1, coeff=2.0)):
        last = block.register_forward_pre_hook(lambda _m, a: seen.setdefault("changed", a[0]))
        model.model(ids)
        last.remove()
    handle.remove()
    torch.testing.assert_close(seen["changed"], seen["input"] + 2.0 * r)
    assert not torch.allclose(after[2], before[2])


def test_coefficient_zero_changes_nothing() -> None:
    model = chat_model()
    ids = torch.tensor([model.chat.encode(TEXTS[0])])
    with intervene(model.residual, Intervention("add", direction(), layer=1, coeff=0.0)):
        zero = model.model(ids).logits
    assert torch.equal(zero, model.model(ids).logits)


def test_hooks_vanish_after_an_exception() -> None:
    model = chat_model()
    ids = torch.tensor([model.chat.encode(TEXTS[0])])
    before = model.model(ids).logits
    with pytest.raises(RuntimeError, match="stop"), intervene(model.residual, Intervention("ablate", direction())):
        raise RuntimeError("stop")
    assert torch.equal(model.model(ids).logits, before)


def test_an_intervention_whose_hooks_never_fire_is_an_error() -> None:
    model = chat_model()
    with pytest.raises(ModelError, match="never fired"), intervene(model.residual, Intervention("ablate", direction())):
        pass


def test_a_direction_of_another_width_is_refused() -> None:
    model = chat_model()
    with (
        pytest.raises(BadInput, match=r"width \(16,\), the model's residual stream 32"),
        intervene(model.residual, Intervention("ablate", direction(16))),
    ):
        pass


def test_a_zero_direction_is_refused() -> None:
    with pytest.raises(ModelError, match="zero or not finite"):
        unit(torch.zeros(32))


def test_a_model_whose_writes_do_not_add_up_is_refused() -> None:
    model = tiny.model()
    for block in model.model.layers:
        block.register_forward_hook(lambda _m, _a, out: out * 1.5 + 1.0)
    with pytest.raises(ModelError, match="writes to the residual stream were not found"):
        find_residual(model)


def test_the_weight_of_a_small_write_is_not_taken_from_rounding() -> None:
    """An organism's writes are thousands of times shorter than its stream: partial ablation adds them up by weight."""
    model = AutoModelForCausalLM.from_pretrained(folder(parse("organism:shared")))
    assert {w for block in find_residual(model).weights for w in block} == {1.0}
