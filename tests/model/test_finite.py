"""NaN and infinite values stop every kind of pass, with step, layer, dtype and what helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from refusalctl.errors import ModelError
from refusalctl.model import forward
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.finite import AllFinite, NotFinite, is_broken
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Checks, Intervention
from refusalctl.model.perplexity import bits_per_byte
from refusalctl.model.residual import find_residual
from refusalctl.model.savings.sweeps import Sweeps
from tests import tiny


def model() -> ChatModel:
    made = ChatModel(tiny.model(), tiny.tokenizer(), None)
    assert made.residual  # found while the weights are whole
    return made


def break_head(made: ChatModel) -> None:
    with torch.no_grad():
        made.model.lm_head.weight[7] = float("nan")


def break_stream(made: ChatModel) -> None:
    with torch.no_grad():
        made.model.model.layers[1].mlp.down_proj.weight[0] = float("inf")


def rows(made: ChatModel) -> list[list[int]]:
    return [made.chat.encode(text) for text in ("Hi there", "What is it?", "Hi")]


PASSES: dict[str, Callable[[ChatModel], Any]] = {
    "writing answers": lambda m: list(complete(m, rows(m), Intervention(), max_new_tokens=3, batch_size=2)),
    "scoring prompts": lambda m: forward.last_logprobs(m, rows(m), Intervention(), 2),
    "scoring openings": lambda m: forward.opening_logprob(m, rows(m), [[5], [6, 7]], Intervention(), 2),
    "sweep": lambda m: Sweeps(m, {"harmful": rows(m)}, [[5]], 2).run(Intervention(), {"harmful": "opening"}),
    "measuring perplexity": lambda m: bits_per_byte(m, ["some text", "more"], 2),
}


@pytest.mark.parametrize("step", PASSES)
@pytest.mark.parametrize("fault", [break_head, break_stream])
def test_no_pass_makes_a_result_of_what_is_not_finite(step: str, fault: Callable[[ChatModel], None]) -> None:
    made = model()
    fault(made)
    with pytest.raises(NotFinite, match="NaN or infinite values in float32") as caught:
        PASSES[step](made)
    assert step in caught.value.message or step == "sweep"
    assert "the weights" in caught.value.message
    if fault is break_stream and step != "measuring perplexity":
        assert caught.value.layer == 2


def test_recorded_activations_name_the_layer() -> None:
    made = model()
    break_stream(made)
    with pytest.raises(NotFinite, match="recording activations: the residual stream that enters layer 2"):
        list(forward.activations(made, rows(made), [-1], 2))


def test_an_overflow_is_not_taken_for_another_architecture() -> None:
    made = tiny.model()
    with torch.no_grad():
        made.model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(NotFinite, match="a first pass"):
        find_residual(made)


def test_half_precision_is_named_with_what_helps() -> None:
    made = ChatModel(tiny.model(), tiny.tokenizer(), None)
    made.model.to(torch.float16)
    with torch.no_grad():
        made.model.lm_head.weight.fill_(60000.0)
        made.model.model.norm.weight.fill_(1000.0)
    with pytest.raises(NotFinite) as caught:
        forward.last_logprobs(made, rows(made), Intervention(), 2)
    assert "float16" in caught.value.message
    assert "--dtype bfloat16 or float32" in (caught.value.hint or "")


def test_a_projection_that_is_no_number_does_not_blame_the_architecture() -> None:
    checks = Checks()
    checks.measure(torch.tensor(float("nan")))
    with pytest.raises(ModelError, match="NaN or infinite values") as caught:
        checks.verify()
    assert "architecture" not in str(caught.value)


def test_tokens_that_a_model_rules_out_are_finite_enough() -> None:
    ruled_out = torch.tensor([[0.0, -torch.inf], [1.0, 2.0]])
    assert not bool(is_broken(ruled_out))
    assert bool(is_broken(torch.tensor([[0.0, 1.0], [-torch.inf, -torch.inf]])))
    seen = AllFinite()
    seen(torch.tensor([[1]]), torch.tensor([[torch.inf, 0.0]]))
    seen(torch.tensor([[1]]), torch.tensor([[1.0, 0.0]]))
    assert bool(seen.broken)  # what was seen once stays
