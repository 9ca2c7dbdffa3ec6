"""How long this machine takes for a pass over a prompt and for a token: measured on a few prompts, not assumed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from refusalctl.model.generate import complete
from refusalctl.model.hooks import Intervention
from refusalctl.model.load import ChatModel
from refusalctl.model.sweeps import Sweeps, Wanted

ROUNDS = 3
NEW_TOKENS = 8
OPENINGS = 4  # as many as derived ones often are, of four tokens each


class Rates(NamedTuple):
    """Seconds per prompt run forward, per prompt scored by its openings under ablation, and under addition at the
    middle layer, and per token of an answer: None where no answer went on long enough to be timed."""

    forward: float
    scored: float
    added: float
    token: float | None
    prompt_tokens: float  # mean, with the chat template


def measure(model: ChatModel, texts: Sequence[str], batch_size: int) -> Rates:
    """Medians of three rounds over `texts` under an ablation, after one that warms up."""
    encoded = [model.chat.encode(text) for text in texts]
    vector = torch.randn(model.residual.d_model, generator=torch.Generator().manual_seed(0))
    ablation = Intervention("ablate", vector, 0)
    openings = [[i + 1] * 4 for i in range(OPENINGS)]

    def answer(new_tokens: int) -> int:
        """Steps taken: a batch goes on until its longest answer ends, be that before the limit."""
        done = complete(model, encoded, ablation, max_new_tokens=new_tokens, batch_size=batch_size)
        return sum(max(len(a.ids) + (not a.truncated) for a in answers) for _, answers, _ in done)

    sweeps = Sweeps(model, {"harmful": encoded}, openings, batch_size)

    def sweep(intervention: Intervention, wanted: Wanted) -> float:
        return _seconds(lambda: sweeps.run(intervention, {"harmful": wanted}))

    forward, scored = sweep(ablation, "next"), sweep(ablation, "opening")
    added = sweep(Intervention("add", vector, model.residual.n_layers // 2), "opening")
    first, more = _seconds(lambda: answer(1)), _seconds(lambda: answer(1 + NEW_TOKENS))
    n = len(texts)
    every = answer(1 + NEW_TOKENS)
    steps = every - answer(1)
    token = None
    if steps > 0:  # where noise hides the difference, all of the time is the bound
        each = (more - first) / steps if more > first else more / every
        token = each * -(-n // batch_size) / n
    return Rates(forward / n, scored / n, added / n, token, sum(map(len, encoded)) / n)


def _seconds(work: Callable[[], object]) -> float:
    work()
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found)
