"""Scores from forward passes, against plain unbatched calculations."""

from __future__ import annotations

import pytest
import torch

from refusalctl.errors import ModelError
from refusalctl.model import forward
from refusalctl.model.chat import open_chat
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Checks, Intervention, intervene
from tests import tiny
from tests.model.test_residual import TEXTS, chat_model, direction

ABLATION = Intervention("ablate", direction())


def plain_logprobs(model, ids: list[int]) -> torch.Tensor:  # type: ignore[no-untyped-def]
    return model.model(torch.tensor([ids])).logits[0].log_softmax(-1)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("intervention", [Intervention(), ABLATION], ids=["none", "ablate"])
def test_opening_logprob_equals_the_sum_over_openings_token_by_token(architecture: str, intervention) -> None:  # type: ignore[no-untyped-def]
    model = chat_model(architecture)
    encoded = [model.chat.encode(text) for text in TEXTS]
    openings = [[5], [9, 11, 200], [9, 12]]
    found = forward.opening_logprob(model, encoded, openings, intervention, batch_size=2)
    for i, prompt in enumerate(encoded):
        total = 0.0
        for opening in openings:
            with intervene(model.residual, intervention):
                logprobs = plain_logprobs(model, prompt + opening)
            total += float(torch.stack([logprobs[len(prompt) - 1 + k, t] for k, t in enumerate(opening)]).sum().exp())
        assert float(found[i].exp()) == pytest.approx(total, rel=1e-4)


def test_what_openings_begin_with_alike_runs_once() -> None:
    model = chat_model()
    shapes: list[tuple[int, ...]] = []
    model.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    forward.opening_logprob(
        model, [model.chat.encode("Hi")], [[9, 11, 200], [9, 12], [9, 11, 7], [5, 3], [4]], Intervention(), 1
    )
    assert shapes[-1] == (2, 2)  # 9 11 and 5, padded


def test_opening_logprob_of_single_tokens_needs_no_cache() -> None:
    model = chat_model()
    encoded = [model.chat.encode(TEXTS[0])]
    found = forward.opening_logprob(model, encoded, [[5], [6]], Intervention(), 4)
    expected = plain_logprobs(model, encoded[0])[-1][[5, 6]].logsumexp(0)
    assert float(found[0]) == pytest.approx(float(expected), rel=1e-5)


def test_all_first_tokens_together_have_probability_one() -> None:
    model = chat_model()
    every = [[i] for i in range(len(model.tokenizer))]
    found = forward.opening_logprob(model, [model.chat.encode("Hi")], every, Intervention(), 4)
    assert float(found[0]) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_batching_and_padding_do_not_change_logprobs(architecture: str) -> None:
    model = chat_model(architecture)
    encoded = [model.chat.encode(text) for text in TEXTS]
    together = forward.last_logprobs(model, encoded, ABLATION, batch_size=3)
    for i, ids in enumerate(encoded):
        alone = forward.last_logprobs(model, [ids], ABLATION, batch_size=1)[0]
        torch.testing.assert_close(together[i], alone, atol=1e-4, rtol=1e-4)


def test_greedy_completions_equal_a_plain_greedy_loop() -> None:
    model = chat_model()
    encoded = [model.chat.encode(text) for text in TEXTS]
    found = {}
    for indices, answers, _ in complete(model, encoded, ABLATION, max_new_tokens=6, batch_size=2):
        found.update(zip(indices, answers))
    for i, prompt in enumerate(encoded):
        ids = list(prompt)
        for _ in range(6):
            with intervene(model.residual, ABLATION):
                token = int(plain_logprobs(model, ids)[-1].argmax())
            if token in model.eos_ids:
                break
            ids.append(token)
        assert found[i].ids == ids[len(prompt) :]
        assert found[i].truncated == (len(found[i].ids) == 6)


def test_finished_batches_are_left_out_and_the_rest_is_the_same() -> None:
    model = chat_model()
    encoded = [model.chat.encode(text) for text in TEXTS]
    whole = list(complete(model, encoded, Intervention(), max_new_tokens=4, batch_size=1))
    first = frozenset(whole[0][0])
    rest = list(complete(model, encoded, Intervention(), max_new_tokens=4, batch_size=1, done=first))
    assert [(i, a) for i, a, _ in rest] == [(i, a) for i, a, _ in whole[1:]]


def test_nan_activations_are_an_error() -> None:
    model = chat_model()
    with torch.no_grad():
        model.model.get_input_embeddings().weight[:] = float("nan")
    object.__setattr__(model, "residual", chat_model().residual.__class__(
        list(model.model.model.layers), [], (), 32))  # fmt: skip
    with pytest.raises(ModelError, match="NaN"):
        list(forward.activations(model, [model.chat.encode("Hi")], [-1], 1))


def test_end_of_instruction_tokens_are_what_the_template_writes_after_the_instruction() -> None:
    chat = open_chat(tiny.tokenizer())
    assert chat.tokenizer.decode(list(chat.suffix)) == "<end>\n<turn>assistant\n"
    assert chat.positions == list(range(-len(chat.suffix), 0))
    ids = chat.encode("Why?")
    assert chat.tokenizer.decode([ids[chat.inst_position]]) == "?"
    assert ids.count(chat.tokenizer.bos_token_id) == 1


def test_a_template_that_says_nothing_after_the_instruction_is_refused() -> None:
    made = tiny.tokenizer()
    made.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ModelError, match="no end-of-instruction tokens"):
        open_chat(made)


def test_padding_is_on_the_left_and_positions_start_at_zero() -> None:
    chat = open_chat(tiny.tokenizer())
    batch = chat.batch([[1, 2, 3], [7]], torch.device("cpu"))
    assert batch.ids.tolist() == [[1, 2, 3], [chat.pad_id, chat.pad_id, 7]]
    assert batch.mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_a_template_that_writes_the_date_gets_the_same_one_every_day() -> None:
    made = tiny.tokenizer()
    for source in ("{{ strftime_now('%d %b %Y') }}", "{{ date_string }}"):
        made.chat_template = "<bos>" + source + tiny.TEMPLATE
        chat = open_chat(made)
        assert "26 Jul 2024" in chat.tokenizer.decode(chat.encode("Why?"))


@pytest.mark.parametrize("left", [float("nan"), 0.5])
def test_an_ablation_that_leaves_something_behind_is_an_error(left: float) -> None:
    checks = Checks()
    checks.measure(torch.tensor(1e-7))
    checks.verify()
    checks.measure(torch.tensor(left))
    with pytest.raises(ModelError, match=r"keeps a share|NaN or infinite values"):
        checks.verify()


def test_collecting_ends_where_the_last_block_begins() -> None:
    model = chat_model()
    ran: list[str] = []
    for name, module in (("last", model.residual.blocks[-1].mlp), ("head", model.model.lm_head)):
        module.register_forward_hook(lambda *_, name=name: ran.append(name))  # type: ignore[operator]
    encoded = [model.chat.encode(text) for text in TEXTS]
    rows = torch.cat([batch for _, batch in forward.activations(model, encoded, [-1], 2)])
    assert torch.isfinite(rows).all()
    assert rows.shape[2] == model.residual.n_layers
    assert ran == []
    assert all(not block._forward_pre_hooks for block in model.residual.blocks)
