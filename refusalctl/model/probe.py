"""How long this machine takes for a pass over a prompt and for a token: measured on a few prompts, not assumed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from refusalctl.model.chat_model import ChatModel
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Intervention
from refusalctl.model.residual import block_input
from refusalctl.model.savings.parts import Wanted
from refusalctl.model.savings.sweeps import Sweeps
from refusalctl.model.transformers_types import Arguments, Keywords

ROUNDS = 3
NEW_TOKENS = 8
LENGTHS = (16, 48)  # new tokens, where a GPU repeats recorded steps: long enough for it to record them
OPENINGS = 4  # as many as derived ones often are, of four tokens each


class Rates(NamedTuple):
    """Seconds per prompt run forward, per prompt scored by its openings under ablation, and under addition at the
    middle layer, and per token of an answer: None where no answer went on long enough to be timed."""

    forward: float
    scored: float
    added: float
    token: float | None
    prompt_tokens: float  # mean, with the chat template

    def scaled(self, prompt_tokens: float) -> Rates:
        """Of prompts of another length: passes cost in proportion to it, answers' tokens nearly the same."""
        by = prompt_tokens / self.prompt_tokens
        return Rates(self.forward * by, self.scored * by, self.added * by, self.token, prompt_tokens)


def measure(model: ChatModel, texts: Sequence[str], batch_size: int) -> Rates:
    """Medians of three rounds over `texts` under an ablation, after one that warms up, and of one batch's steps."""
    encoded = [model.chat.encode(text) for text in texts]
    vector = torch.randn(model.residual.d_model, generator=torch.Generator().manual_seed(0))
    ablation = Intervention("ablate", vector, 0)
    openings = [[i + 1] * 4 for i in range(OPENINGS)]
    sweeps = Sweeps(model, {"harmful": encoded}, openings, min(batch_size, len(texts)))

    def sweep(intervention: Intervention, wanted: Wanted) -> float:
        return _seconds(lambda: sweeps.run(intervention, {"harmful": wanted})) / len(texts)

    return Rates(
        forward=sweep(ablation, "next"),
        scored=sweep(ablation, "opening"),
        added=sweep(Intervention("add", vector, model.residual.n_layers // 2), "opening"),
        token=_token(model, encoded, ablation, batch_size),
        prompt_tokens=mean_tokens(encoded),
    )


def mean_tokens(encoded: Sequence[Sequence[int]]) -> float:
    return sum(map(len, encoded)) / len(encoded)


def _token(
    model: ChatModel, encoded: Sequence[Sequence[int]], intervention: Intervention, batch_size: int
) -> float | None:
    """Seconds per token and answer in a full batch: a step costs nearly the same for few rows as for many."""
    rows = [encoded[i % len(encoded)] for i in range(batch_size)]
    if model.device.type == "cuda":
        return _whole_answers(model, rows, intervention, LENGTHS)
    begun: list[tuple[int, float]] = []

    def step(_m: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        x = block_input(args, kwargs)
        if x.shape[1] == 1:
            _wait()
            begun.append((x.shape[0], time.perf_counter()))

    handle = model.residual.blocks[0].register_forward_pre_hook(step, with_kwargs=True)
    try:
        n = 1 + NEW_TOKENS
        for _ in complete(model, rows, intervention, max_new_tokens=n, max_think_tokens=n, batch_size=batch_size):
            _wait()
            begun.append((0, time.perf_counter()))  # the batch's end
    finally:
        handle.remove()
    times = [(later - earlier) / n for (n, earlier), (_, later) in pairwise(begun) if n]
    return statistics.median(times) if times else None


def _whole_answers(
    model: ChatModel, rows: Sequence[Sequence[int]], intervention: Intervention, lengths: tuple[int, int]
) -> float | None:
    """The same from answers of two lengths: steps that a GPU repeats run no hook that could time them."""
    endless = replace(model)
    endless.__dict__["eos_ids"] = []

    def answers(n: int) -> list[object]:
        size = len(rows)
        return list(complete(endless, rows, intervention, max_new_tokens=n, max_think_tokens=n, batch_size=size))

    short, long = (_seconds(partial(answers, n)) for n in lengths)
    return (long - short) / (lengths[1] - lengths[0]) / len(rows) if long > short else None


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object]) -> float:
    work()
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        _wait()
        found.append(time.perf_counter() - started)
    return statistics.median(found)
