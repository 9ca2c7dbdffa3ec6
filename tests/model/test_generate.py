"""Answers whose prompts share a beginning, against answers of one prompt at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from refusalctl.model import generate
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Intervention
from refusalctl.model.savings import shared_beginning
from tests import exactness
from tests.exactness import TEXTS, interventions

BEGINNING = "Please, now and here, "


def encoded(model: ChatModel) -> list[list[int]]:
    return [model.chat.encode(BEGINNING + text) for text in TEXTS]


def answers(
    model: ChatModel, asked: Intervention, rows: list[list[int]], batch_size: int, new_tokens: int = 6
) -> dict[int, list[int]]:
    done = complete(model, rows, asked, max_new_tokens=new_tokens, batch_size=batch_size)
    return {i: answer.ids for indices, batch, _ in done for i, answer in zip(indices, batch)}


def widths(model: ChatModel) -> list[tuple[int, int]]:
    """Shapes of what goes through the first block, in order."""
    seen: list[tuple[int, int]] = []

    def hook(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        seen.append((x.shape[0], x.shape[1]))

    model.residual.blocks[0].register_forward_pre_hook(hook, with_kwargs=True)
    return seen


@pytest.mark.parametrize("kind", ["none", *interventions()])
@pytest.mark.parametrize("name", ["Llama", "Gemma 2", "Falcon", "MPT", "LFM2", "Qwen3-Next"])
def test_answers_are_those_of_one_prompt_at_a_time(name: str, kind: str) -> None:
    model = exactness.chat_model(name)
    asked = interventions().get(kind, Intervention())
    rows = encoded(model)
    together = answers(model, asked, rows, 3)
    for i, row in enumerate(rows):
        assert together[i] == answers(model, asked, [row], 1)[0]


def test_the_beginning_runs_as_one_row() -> None:
    model = exactness.chat_model("Llama")
    rows = encoded(model)
    list(complete(model, rows, Intervention(), max_new_tokens=1, batch_size=4))  # proves it
    seen = widths(model)
    list(complete(model, rows, interventions()["ablate"], max_new_tokens=1, batch_size=4))
    shared = len(shared_beginning.shared_beginning(model, rows))
    assert shared > len(BEGINNING)
    assert seen == [(1, shared), (4, max(map(len, rows)) - shared)]


@pytest.mark.parametrize("kind", ["none", *interventions()])
@pytest.mark.parametrize("name", ["Llama", "Qwen2"])
def test_finished_rows_leave_the_batch(name: str, kind: str) -> None:
    model, asked = exactness.chat_model(name), interventions().get(kind, Intervention())
    rows = encoded(model)
    endless = answers(model, asked, rows, 4, 12)
    model.__dict__["eos_ids"] = sorted({endless[i][i + 1] for i in range(3)})  # one after another
    seen = widths(model)
    together = answers(model, asked, rows, 4, 12)
    assert [n for n, _ in seen][-1] < 4
    assert len({len(ids) for ids in together.values()}) > 1
    for i, row in enumerate(rows):
        ends = [k for k, token in enumerate(endless[i]) if token in model.eos_ids]
        assert together[i] == endless[i][: ends[0] if ends else None] == answers(model, asked, [row], 1, 12)[0]


def test_rows_stay_where_layers_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that keeps no positions cannot be taken apart here, and says so by sharing nothing."""
    model = exactness.chat_model("Qwen3-Next")
    rows = encoded(model)
    first = answers(model, Intervention(), rows, 4)
    model.__dict__["eos_ids"] = sorted({first[i][1] for i in range(3)})
    seen = widths(model)
    answers(model, Intervention(), rows, 4)
    assert {n for n, _ in seen} == {4}


def test_a_beginning_is_proved_once_per_model_and_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, proofs = exactness.chat_model("Llama"), []
    real = shared_beginning._proved
    monkeypatch.setattr(shared_beginning, "_proved", lambda *args: proofs.append(1) or real(*args))
    for asked in (Intervention(), *interventions().values()):
        answers(model, asked, encoded(model), 4)
    assert len(proofs) == 1


def test_what_changes_the_answer_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    model = exactness.chat_model("Llama")
    real = shared_beginning.cache_for

    def wrong(begun: Any, rows: int) -> Any:
        cache = real(begun, rows)
        if cache is not None:
            cache.layers[0].keys = cache.layers[0].keys * 1.05
        return cache

    monkeypatch.setattr(shared_beginning, "cache_for", wrong)
    monkeypatch.setattr(generate, "cache_for", wrong)
    assert not shared_beginning.shared_beginning(model, encoded(model))
    plain = exactness.chat_model("Llama")
    assert answers(model, Intervention(), encoded(model), 4) == answers(plain, Intervention(), encoded(plain), 1)


def test_chosen_positions_share_nothing() -> None:
    """They are counted from the prompt's end, and padding would stand in between."""
    model = exactness.chat_model("Llama")
    rows = encoded(model)
    r = interventions()["ablate"].direction
    asked = Intervention("ablate", r, positions=(-len(min(rows, key=len)),))
    seen = widths(model)
    together = answers(model, asked, rows, 4)
    assert seen[0] == (4, max(map(len, rows)))
    for i, row in enumerate(rows):
        alone = Intervention("ablate", r, positions=asked.positions)
        assert together[i] == answers(model, alone, [row], 1)[0]


def test_half_precision_shares_within_its_rounding() -> None:
    model = exactness.chat_model("Llama", torch.bfloat16)
    found = shared_beginning.shared_beginning(model, encoded(model))
    assert found
    assert 0 <= found.deviation < 0.02
