"""Memory that runs out: batches are halved, and the results stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch

from refusalctl.errors import ModelError
from refusalctl.model import forward, gradients
from refusalctl.model.batching import BatchLimit, least_work, plan_batches
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Checks, Intervention
from refusalctl.model.perplexity import bits_per_byte
from refusalctl.model.savings.sweeps import Sweeps
from tests.exactness import TEXTS, interventions
from tests.families import build
from tests.tiny import tokenizer

ROWS = 6


def test_the_least_work_is_less_than_that_of_any_other_batches() -> None:
    lengths, apiece = [9, 2, 8, 3, 2, 9, 1], 4

    def work(batches: list[list[int]]) -> int:
        return sum(len(each) * max(lengths[i] for i in each) + apiece for each in batches)

    found = least_work(lengths, 4, apiece=apiece)
    order = [i for each in found for i in each]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    cuts = (sorted({0, 7, *at}) for n in range(7) for at in combinations(range(1, 7), n))
    every = [[order[a:b] for a, b in pairwise(each)] for each in cuts]
    assert work(found) == min(work(each) for each in every if max(map(len, each)) <= 4)
    assert least_work(lengths, 7, apiece=1000) == plan_batches(lengths, 7)
    assert max(map(len, least_work(lengths, 3, apiece=1000))) == 3
    assert least_work([], 3, apiece=4) == []


OPENINGS = [[5], [9, 12]]


def chat_model(room_for: int | None = None, error: Callable[[], RuntimeError] = torch.OutOfMemoryError) -> ChatModel:
    """A tiny Llama; with `room_for`, a pass over more rows runs out of memory."""
    made = ChatModel(build("Llama"), tokenizer(), None)
    assert made.residual.n_layers

    def narrow(_m: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        if room_for is not None and len(kwargs["input_ids"]) > room_for:
            raise error()

    made.model.register_forward_pre_hook(narrow, with_kwargs=True)
    return made


def encoded(model: ChatModel) -> list[list[int]]:
    return [model.chat.encode(f"Please, now and here, {i} {TEXTS[i % len(TEXTS)]}") for i in range(ROWS)]


def swept(model: ChatModel) -> torch.Tensor:
    rows = encoded(model)
    found = torch.full((ROWS,), float("nan"), dtype=torch.float64)
    for ran in Sweeps(model, {"harmful": rows}, [[5], [6]], ROWS).run(interventions()["add"], {"harmful": "opening"}):
        assert ran.opening is not None
        found[ran.indices] = ran.opening
    return found


def collected(model: ChatModel) -> torch.Tensor:
    found = torch.full((ROWS, 1, model.residual.n_layers, model.residual.d_model), float("nan"))
    for indices, part in forward.activations(model, encoded(model), [-1], ROWS):
        found[indices] = part
    return found


def answered(model: ChatModel) -> torch.Tensor:
    found = torch.full((ROWS, 4), -1)
    for indices, answers, checks in complete(
        model, encoded(model), interventions()["ablate"], max_new_tokens=4, batch_size=ROWS
    ):
        assert checks.fired
        for i, answer in zip(indices, answers):
            found[i, : len(answer.ids)] = torch.tensor(answer.ids)
    return found


def screened(model: ChatModel) -> torch.Tensor:
    directions = gradients.Directions(torch.eye(32)[:3], [0, 1, 2])
    scores = gradients.refusal_scores(model, encoded(model), OPENINGS, directions, ROWS, added=False)
    return torch.cat([scores.change, gradients.kl_estimates(model, encoded(model), directions, ROWS)])


PASSES: dict[str, Callable[[ChatModel], torch.Tensor]] = {
    "collect": collected,
    "next token": lambda m: forward.last_logprobs(m, encoded(m), interventions()["ablate"], ROWS),
    "openings": lambda m: forward.opening_logprob(m, encoded(m), [[5], [6]], Intervention(), ROWS),
    "sweeps": swept,
    "answers": answered,
    "gradients": screened,
    "perplexity": lambda m: bits_per_byte(m, [f"some words {i} of text" for i in range(ROWS)], ROWS),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_batch_that_does_not_fit_is_taken_in_parts(name: str) -> None:
    whole, narrow = chat_model(), chat_model(room_for=2)
    expected, found = PASSES[name](whole), PASSES[name](narrow)
    assert whole.batch_limit.most is None
    assert narrow.batch_limit.most == 2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_what_did_not_fit_once_is_not_tried_again() -> None:
    tried: list[int] = []
    model = chat_model(room_for=2)
    model.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: tried.append(len(kwargs["input_ids"])), with_kwargs=True, prepend=True
    )
    collected(model)
    assert tried == [6, 3, 2, 2, 2]
    tried.clear()
    collected(model)
    assert tried == [2, 2, 2]


def test_the_hooks_of_a_failed_pass_are_gone_and_count_nothing() -> None:
    model, checks = chat_model(room_for=2), Checks()
    forward.last_logprobs(model, encoded(model), interventions()["ablate"], ROWS, checks)
    hooks = [h for m in model.model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]
    assert len(hooks) == 1  # the one that stands for small memory
    plain = Checks()
    forward.last_logprobs(chat_model(), encoded(model), interventions()["ablate"], 2, plain)
    assert checks.fired == plain.fired


def test_a_single_row_that_does_not_fit_is_one_clear_line() -> None:
    with pytest.raises(ModelError, match="a single prompt does not fit"):
        collected(chat_model(room_for=0))
    with pytest.raises(ModelError, match="a single prompt does not fit"):
        swept(chat_model(room_for=0))


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        collected(chat_model(room_for=2, error=lambda: RuntimeError("shapes do not match")))


def test_another_backend_says_so_in_words() -> None:
    model = chat_model(room_for=3, error=lambda: RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    collected(model)
    assert model.batch_limit.most == 3


def test_batches_come_in_the_plan_s_order_and_whole() -> None:
    room = BatchLimit()
    plan = plan_batches([3, 9, 5, 7, 1], 4)

    def work(indices: list[int]) -> int:
        if len(indices) > 2:
            raise torch.OutOfMemoryError
        return len(indices)

    assert list(room.batches(plan, work)) == [([1, 3], 2), ([2, 0], 2), ([4], 1)]
