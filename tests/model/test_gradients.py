"""First-order changes against small finite steps, prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from refusalctl.model import forward, gradients
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.gradients import Directions
from refusalctl.model.hooks import Intervention
from refusalctl.model.residual import block_input, hidden_of
from tests import exactness
from tests.exactness import TEXTS
from tests.families import D_MODEL

NAMES = ("Llama", "Gemma 2", "GPT-2", "Qwen3-MoE", "Granite", "Falcon", "LFM2")
STEP = 2e-4  # norms compute in float32, so no smaller
OPENING = [9, 11, 200]


def vectors(n: int = 3) -> Tensor:
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(4)) * 2


@contextmanager
def partly_ablated(model: ChatModel, vector: Tensor, share: float) -> Iterator[None]:
    """Every write without a share of its component along a vector."""
    r = (vector / vector.norm()).double()

    def less(x: Tensor) -> Tensor:
        return x - share * (x @ r)[..., None] * r

    def enters(_m: nn.Module, args, kwargs):  # type: ignore[no-untyped-def]
        x = less(block_input(args, kwargs))
        return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

    def wrote(_m: nn.Module, _args, output):  # type: ignore[no-untyped-def]
        return (less(hidden_of(output)), *output[1:]) if isinstance(output, tuple) else less(output)

    residual = model.residual
    handles = [residual.blocks[0].register_forward_pre_hook(enters, with_kwargs=True)]
    handles += [m.register_forward_hook(wrote) for writes in residual.writes for m in writes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def log_odds(model: ChatModel, prompt: list[int]) -> float:
    """Of writing the opening, token by token."""
    logprobs = model.model(torch.tensor([prompt + OPENING]), use_cache=False).logits[0].double().log_softmax(-1)
    p = sum(logprobs[len(prompt) - 1 + k, token] for k, token in enumerate(OPENING)).exp()  # type: ignore[union-attr]
    return float(torch.log(p) - torch.log1p(-p))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_changes_of_the_refusal_score_are_its_derivatives(name: str) -> None:
    model = exactness.chat_model(name, torch.float64)
    encoded = [model.chat.encode(text) for text in TEXTS]
    asked = Directions(vectors(), [0, 1, 2])
    ablated = gradients.refusal_scores(model, encoded, [OPENING], asked, 3, added=False)
    added = gradients.refusal_scores(model, encoded, [OPENING], asked, 3, added=True)
    for i, prompt in enumerate(encoded):
        assert float(ablated.score[i]) == pytest.approx(log_odds(model, prompt), abs=1e-4)
        for j, vector in enumerate(asked.vectors):
            both = []
            for share in (STEP, -STEP):
                with partly_ablated(model, vector, share):
                    both.append(log_odds(model, prompt))
            assert float(ablated.change[i, j]) == pytest.approx((both[0] - both[1]) / (2 * STEP), rel=1e-2, abs=2e-2)
            both = []
            for share in (STEP, -STEP):
                with forward.intervene(model.residual, Intervention("add", vector, asked.layers[j], share)):
                    both.append(log_odds(model, prompt))
            assert float(added.change[i, j]) == pytest.approx((both[0] - both[1]) / (2 * STEP), rel=1e-2, abs=2e-2)


@torch.no_grad()
def test_the_kl_estimate_is_half_the_curvature(monkeypatch: pytest.MonkeyPatch) -> None:
    model = exactness.chat_model("Llama", torch.float64)
    monkeypatch.setattr(gradients, "TOP", model.model.config.vocab_size)
    prompt = model.chat.encode(TEXTS[0])
    asked = Directions(vectors(), [0, 1, 2])
    found = gradients.kl_estimates(model, [prompt], asked, 1)[0]

    def logprobs() -> Tensor:
        return model.model(torch.tensor([prompt]), use_cache=False).logits[0, -1].double().log_softmax(-1)

    before = logprobs()
    for j, vector in enumerate(asked.vectors):
        with partly_ablated(model, vector, 10 * STEP):
            kl = float((before.exp() * (before - logprobs())).sum())
        assert float(found[j]) == pytest.approx(kl / (10 * STEP) ** 2, rel=3e-2)


def test_several_single_tokens_count_together_and_a_sure_refusal_still_has_a_slope() -> None:
    logits = torch.zeros(1, 1, 8)
    logits[0, 0, 2:4] = torch.tensor([60.0, 58.0])
    logits.requires_grad_()
    score = gradients._log_odds(logits, [[[2, 3]]])
    expected = torch.tensor([60.0, 58.0]).logsumexp(0) - torch.tensor(6.0).log()
    assert float(score.detach()) == pytest.approx(float(expected), rel=1e-6)
    (slope,) = torch.autograd.grad(score.sum(), logits)
    assert float(slope[0, 0, 2:4].sum()) == pytest.approx(1.0, rel=1e-5)


def test_the_likeliest_opening_stands_for_all() -> None:
    model = exactness.chat_model("Llama")
    encoded = [model.chat.encode(text) for text in TEXTS]
    openings = [[5], [9, 11, 200], [9, 12]]
    chosen = gradients._targets(model, encoded, openings, 3)
    for prompt, target in zip(encoded, chosen, strict=True):
        each = [forward.opening_logprob(model, [prompt], [o], Intervention(), 1) for o in openings]
        assert target == [[token] for token in openings[int(torch.stack(each)[:, 0].argmax())]]


def test_nothing_stays_on_the_model() -> None:
    model = exactness.chat_model("Llama")
    gradients.kl_estimates(model, [model.chat.encode("Hi")], Directions(vectors(), [0, 1, 2]), 1)
    hooks = [h for m in model.model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]
    assert not hooks
    assert not any(p.requires_grad or p.grad is not None for p in model.model.parameters())
