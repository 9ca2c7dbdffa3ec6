"""Losses of texts and answers against a plain calculation, with and without an intervention."""

from __future__ import annotations

import pytest
import torch

from refusalctl.errors import BadInput
from refusalctl.model.hooks import Checks, Intervention, intervene
from refusalctl.model.perplexity import TokenText, nats_of, windows
from tests import exactness

TEXTS = [TokenText([1, 7, 9, 30, 31, 5]), TokenText([1, 8, 8, 2], 2), TokenText([4, 3, 2, 1, 9, 9, 9, 12, 40], 5)]


def plainly(model: object, text: TokenText, asked: Intervention) -> float:
    """One row, no padding, no batch."""
    with torch.inference_mode(), intervene(model.residual, asked):  # type: ignore[attr-defined]
        logits = model.model(input_ids=torch.tensor([text.ids]), use_cache=False).logits[0].double()  # type: ignore[attr-defined]
    logprob = logits.log_softmax(-1)
    return -sum(float(logprob[i - 1, text.ids[i]]) for i in range(text.start, len(text.ids)))


@pytest.mark.parametrize("kind", ["none", "ablate", "add"])
def test_losses_are_those_of_each_row_alone(kind: str) -> None:
    model = exactness.chat_model("Llama")
    asked = Intervention() if kind == "none" else exactness.interventions()[kind]
    checks = Checks()
    found = dict(nats_of(model, TEXTS, asked, 3, checks))
    assert [found[i] for i in range(3)] == pytest.approx([plainly(model, text, asked) for text in TEXTS], rel=1e-4)
    assert (checks.fired > 0) == (kind != "none")
    assert dict(nats_of(model, TEXTS, asked, 1)) == pytest.approx(found, rel=1e-4)


def test_batches_whose_rows_are_all_done_are_left_out() -> None:
    model = exactness.chat_model("Llama")
    assert [i for i, _ in nats_of(model, TEXTS, Intervention(), 1, done=frozenset({0, 2}))] == [1]


def test_a_long_text_is_predicted_in_parts_and_an_empty_one_in_none() -> None:
    model = exactness.chat_model("Llama")
    text = "some words of a text " * 4
    whole, parts = windows(model, text, None), windows(model, text, 10)
    assert len(whole) == 1
    start = whole[0].ids[0]
    assert all(part.ids[0] == start and len(part.ids) <= 10 for part in parts)
    assert [i for part in parts for i in part.ids[1:]] == whole[0].ids[1:]
    assert windows(model, "") == []


def test_chosen_positions_have_no_meaning_in_a_text() -> None:
    model = exactness.chat_model("Llama")
    asked = Intervention("ablate", torch.ones(model.residual.d_model), 0, positions=(-1,))
    with pytest.raises(BadInput, match="chosen positions of the prompt has no meaning"):
        list(nats_of(model, TEXTS, asked, 1))
