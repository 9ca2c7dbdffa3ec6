"""Whether rows may be padded is tried on the model, not read from its name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from refusalctl.errors import ModelError
from refusalctl.model import forward
from refusalctl.model.chat import open_chat
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files.resolve import resolve
from refusalctl.model.load import load
from refusalctl.model.padding import check_pad, settle
from tests import tiny
from tests.exactness import TEXTS, chat_model


def recurrent() -> ChatModel:
    """RecurrentGemma: its convolution and recurrence take padding up."""
    torch.manual_seed(0)
    made = tiny.tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(made), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "lru_width": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2, "attention_window_size": 64,
        "pad_token_id": made.pad_token_id, "eos_token_id": made.eos_token_id, "bos_token_id": made.bos_token_id,
    }  # fmt: skip
    built = AutoModelForCausalLM.from_config(AutoConfig.for_model("recurrent_gemma", **settings), dtype=torch.float32)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return ChatModel(built.eval().requires_grad_(False), made, None)


def streams(model: ChatModel, batch_size: int) -> torch.Tensor:
    encoded = [model.chat.encode(text) for text in TEXTS]
    found = torch.empty(len(encoded), model.residual.n_layers, model.residual.d_model)
    for indices, batch in forward.activations(model, encoded, [-1], batch_size):
        found[indices] = batch[:, 0]
    return found


def test_a_model_whose_states_depend_on_padding_runs_prompts_alone_whatever_the_batch_size() -> None:
    model = recurrent()
    assert not torch.allclose(streams(model, 4), streams(model, 1), atol=0.1)
    found = settle(model)
    assert not found.together
    assert found.deviation is not None
    assert found.deviation > 0.1
    assert torch.equal(streams(model, 4), streams(model, 1))


@pytest.mark.parametrize("family", ["Llama", "Gemma 2", "GPT-2", "OPT", "BLOOM", "Mixtral", "LFM2"])
def test_models_that_leave_padding_out_are_padded(family: str) -> None:
    found = settle(chat_model(family))
    assert found.together, found
    assert found.deviation is not None
    assert found.deviation < 1e-4


def test_half_precision_is_judged_by_its_own_rounding() -> None:
    assert settle(chat_model("Llama", torch.bfloat16)).together


def test_a_model_that_takes_no_positions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chat_model("GPT-2")
    monkeypatch.setattr(type(model.model), "forward", lambda self, input_ids, attention_mask=None: None)  # noqa: ARG005
    with pytest.raises(ModelError, match="takes no position ids"):
        settle(model)


@pytest.mark.parametrize("pad", [99999, -1, 260])
def test_a_pad_token_without_embedding_gives_way_to_one_that_the_model_has(pad: int) -> None:
    config = AutoConfig.for_model("llama", vocab_size=260, pad_token_id=pad)
    check_pad(config)
    assert config.pad_token_id is None


def test_a_tokenizers_pad_token_beyond_the_embedding_is_replaced_and_told() -> None:
    made = tiny.tokenizer()
    made.add_special_tokens({"pad_token": "<added>"})
    chat = open_chat(made, None, 260)
    assert chat.pad_id == made.eos_token_id
    assert "'<added>' (260)" in chat.notes[0]
    assert open_chat(made, None, 261).pad_id == 260


def test_a_prompt_with_a_token_that_the_model_lacks_names_it() -> None:
    made = tiny.tokenizer()
    made.add_tokens(["parrot"])
    with pytest.raises(ModelError, match=r"'parrot' \(260\).*260 tokens"):
        open_chat(made, None, 260).encode("A parrot.")


def test_nothing_is_proved_of_numbers_that_are_not_finite() -> None:
    model = chat_model("Llama")
    assert model.residual  # found before the weights break
    with torch.no_grad():
        model.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN or infinite values"):
        settle(model)
    assert model.batch_limit.padding is None


def test_logits_that_are_nothing_but_rounding_are_no_sign_of_padding() -> None:
    """To words that it does not know this organism gives every token the same logit, so what differs is rounding."""
    assert settle(load(resolve("organism:noisy-10"))).together
