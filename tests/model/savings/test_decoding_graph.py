"""Answers written by a repeated step, against those that transformers writes."""

from __future__ import annotations

from typing import Any

import pytest

from refusalctl.model.chat_model import ChatModel
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Checks, Intervention
from refusalctl.model.savings import cuda_graphs, decoding_graph
from tests import exactness
from tests.exactness import TEXTS, interventions
from tests.families import FAMILIES

NEW = 24
RECORDED = ("Llama", "Qwen2", "Gemma", "GPT-NeoX", "OPT")  # at least these


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """`complete` takes repeated steps on a CPU, too: the step itself stands for the recorded one."""
    monkeypatch.setattr(decoding_graph, "can_replay", lambda _model, cache, _new: cache is not None)
    monkeypatch.setattr(cuda_graphs, "recorded", lambda take, _checks: take)


def answers(model: ChatModel, asked: Intervention, new_tokens: int = NEW) -> tuple[dict[int, Any], Checks]:
    rows = [model.chat.encode(f"Please, now and here, {text}") for text in TEXTS]
    found, seen = {}, Checks()
    for indices, batch, checks in complete(model, rows, asked, max_new_tokens=new_tokens, batch_size=4):
        found |= {i: (answer.ids, answer.truncated) for i, answer in zip(indices, batch)}
        seen.merge(checks)
    return found, seen


@pytest.mark.parametrize("kind", ["none", *interventions()])
@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Falcon", "GPT-2", "OPT"])
def test_answers_are_those_of_transformers(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    asked = interventions().get(kind, Intervention())
    plain, model = endless(name), endless(name)
    expected, seen = answers(plain, asked)
    request.getfixturevalue("repeated")
    found, checks = answers(model, asked)
    assert model.graph_trial.works
    assert found == expected
    # the beginning, the prompts, a step for each token but the first, and one more for the proof
    assert checks.fired * (NEW + 1) == seen.fired * (NEW + 2)
    assert checks.repeated
    assert checks.deviation < 1e-6
    assert (checks.max_projection is None) == (seen.max_projection is None)


def endless(name: str) -> ChatModel:
    """A model whose answers go on to the limit."""
    model = exactness.chat_model(name)
    model.__dict__["eos_ids"] = []
    return model


@pytest.mark.usefixtures("repeated")
def test_rows_end_where_they_end_and_nothing_is_written_behind_the_last() -> None:
    model = exactness.chat_model("Llama")
    model.__dict__["eos_ids"] = []
    whole, _ = answers(model, Intervention())
    model.__dict__["eos_ids"] = sorted({whole[i][0][i + 1] for i in range(4)})
    steps: list[int] = []
    model.residual.blocks[0].register_forward_pre_hook(lambda *_: steps.append(1))
    found, _ = answers(model, Intervention())
    for i, (ids, truncated) in found.items():
        end = min(k for k, token in enumerate(whole[i][0]) if token in model.eos_ids)
        assert ids == whole[i][0][:end]
        assert not truncated
    assert len(steps) <= 2 + max(len(ids) for ids, _ in found.values()) + decoding_graph.LOOK + 1


def test_a_step_that_differs_is_not_repeated(repeated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = answers(exactness.chat_model("Llama"), Intervention())
    static = decoding_graph._static

    def shifted(layer: Any, room: int) -> Any:
        made = static(layer, room)
        made.keys.neg_()
        return made

    monkeypatch.setattr(decoding_graph, "_static", shifted)
    model = exactness.chat_model("Llama")
    found, _ = answers(model, Intervention())
    assert model.graph_trial.works is False
    assert found == expected


def test_a_step_that_cannot_be_recorded_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = answers(exactness.chat_model("Llama"), Intervention())

    def fails(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(decoding_graph, "can_replay", lambda model, *_: model.graph_trial.works is not False)
    monkeypatch.setattr(cuda_graphs, "recorded", fails)
    model = exactness.chat_model("Llama")
    assert answers(model, Intervention())[0] == expected
    assert model.graph_trial.works is False


def test_processors_answer_without() -> None:
    model = exactness.chat_model("Llama")
    assert not decoding_graph.can_replay(model, object(), 1000)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["none", "ablate", "add"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_gpu_repeats_what_it_recorded(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = interventions().get(kind, Intervention())
    model = exactness.chat_model(name)
    model.model.to("cuda")
    with monkeypatch.context() as off:
        off.setattr(decoding_graph, "can_replay", lambda *_: False)
        expected, eager = answers(model, asked)
    found, checks = answers(model, asked)
    assert found == expected
    assert checks.repeated or name not in RECORDED
    if checks.repeated and kind == "ablate":
        assert checks.fired >= eager.fired
        assert checks.max_projection is not None
