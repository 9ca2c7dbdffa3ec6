"""Answers written with one step that a GPU has recorded and repeats (a CUDA graph).

At one token per row the arithmetic is over sooner than Python has asked for it. A recorded step runs the same kernels,
hooks included, over tensors that keep their place: keys and values lie in buffers of the full length (transformers'
static cache layers), and what is not written yet is masked. Attention over a buffer may round otherwise than over a
cache of the exact length, so every batch's first repetition is compared with a plain pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import StaticLayer

from refusalctl.model.chat import Batch
from refusalctl.model.finite import is_broken, not_finite, require_finite
from refusalctl.model.forward import run
from refusalctl.model.hooks import Checks
from refusalctl.model.savings import cuda_graphs
from refusalctl.model.savings.beginnings import with_layers
from refusalctl.model.savings.cuda_graphs import UNRECORDABLE, can_record, masking
from refusalctl.model.savings.shared_beginning import furthest, is_rounding

if TYPE_CHECKING:
    from refusalctl.model.chat_model import ChatModel
    from refusalctl.model.thoughts import Written

LOOK = 4  # steps between two looks at whether every row has ended: a look makes the device wait
WORTH = 16  # tokens; recording costs as much as a few steps


def can_replay(chat_model: ChatModel, cache: Any, max_new_tokens: int) -> bool:
    """Whether recording is worth a try: one GPU, a cache that keeps every position, an answer that is long enough."""
    asked = cache is not None and max_new_tokens >= WORTH and chat_model.graph_trial.works is not False
    return asked and can_record(chat_model)


def write(
    chat_model: ChatModel,
    batch: Batch,
    cache: Any,
    checks: Checks,
    max_new_tokens: int,
    watched: Sequence[Written] = (),
) -> list[list[int]] | None:
    """The greedy tokens behind each row, under the hooks that are on; None where the model's steps cannot be repeated.

    `cache` holds what `batch.mask` begins with. The first repeated step is compared with a plain pass over the tokens
    before it, in every batch; what hooks do to the stream is measured at every repetition. Both are kept in `checks`.
    `watched`: rows that end by more than a token, such as those of a model that thinks first.

    Raises `ModelError` for logits that are not finite.
    """
    prompt = run(chat_model, batch, use_cache=True, cache=cache)
    require_finite(prompt.logits[:, -1], chat_model.model, "writing answers")
    try:
        steps = _Steps(chat_model, batch, prompt, max_new_tokens)
        steps.take()
        again = cuda_graphs.recorded(steps.take, checks)
        fed = steps.written[:, : int(steps.column)].clone()
        deviation = furthest(_plainly(chat_model, batch, prompt, fed), again().float().log_softmax(-1))
    except UNRECORDABLE:
        deviation = inf
    if not is_rounding(chat_model, deviation):
        chat_model.graph_trial.works = False
        return None
    chat_model.graph_trial.works = True
    checks.repeated, checks.deviation = True, max(checks.deviation, deviation)
    for _ in steps.until_ended(watched):
        again()
    if bool(steps.broken):
        raise not_finite(chat_model.model, "writing answers", "logits")
    return steps.written.tolist()


def _plainly(
    chat_model: ChatModel, batch: Batch, prompt: Any, ids: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch d_vocab"]:
    """Log-probabilities behind more tokens, in the cache that grows."""
    width = ids.shape[1]
    mask = torch.nn.functional.pad(batch.mask, (0, width), value=1)
    more = Batch(ids, mask, batch.position_ids[:, -1:] + torch.arange(1, width + 1, device=ids.device))
    logits: Tensor = run(chat_model, more, use_cache=True, cache=prompt.past_key_values).logits[:, -1]
    return logits.float().log_softmax(-1)


class _Steps:
    """One token for every row at a time, over tensors that keep their place."""

    def __init__(self, chat_model: ChatModel, batch: Batch, prompt: Any, most: int) -> None:
        device, (rows, length) = batch.mask.device, batch.mask.shape
        room = -(-(length + most) // 8) * 8  # attention kernels want masks of such lengths
        self.model, self.most = chat_model.model, most
        self.eos = torch.tensor(chat_model.eos_ids, dtype=torch.long, device=device)
        self.ids = prompt.logits[:, -1:].float().argmax(-1)
        self.positions = batch.position_ids[:, -1:] + 1
        self.at = torch.tensor([length], device=device)
        self.column = torch.tensor([1], device=device)
        self.written = torch.full((rows, most), chat_model.chat.pad_id, device=device)
        self.written[:, :1] = self.ids
        self.broken = torch.zeros((), dtype=torch.bool, device=device)
        self.ended = torch.isin(self.ids[:, 0], self.eos)
        written = torch.nn.functional.pad(batch.mask.bool(), (0, room - length))
        self.mask = masking(written[:, None, None], next(self.model.parameters()).dtype)
        self.cache = with_layers(prompt.past_key_values, [_static(x, room) for x in prompt.past_key_values.layers])

    def take(self) -> Float[Tensor, "batch d_vocab"]:
        """Feed the newest tokens and write the next ones; returns their logits. Never waits for the device."""
        self.mask.index_fill_(-1, self.at, 0)
        out = self.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[:, -1]
        self.broken |= is_broken(logits)
        self.ids.copy_(logits.float().argmax(-1, keepdim=True))
        self.written.index_copy_(1, self.column, self.ids)
        self.ended |= torch.isin(self.ids[:, 0], self.eos)
        for counter in (self.at, self.positions, self.column):
            counter += 1
        return logits

    def until_ended(self, watched: Sequence[Written] = ()) -> Iterator[None]:
        """As many turns as there are tokens to write, or until every row has ended."""
        left, seen = self.most - int(self.column), 0
        for turn in range(left):
            if turn % LOOK == 0 and watched:
                until = int(self.column)
                for row, tokens in zip(watched, self.written[:, seen:until].tolist(), strict=True):
                    for token in tokens:
                        row.push(token)
                seen = until
            if turn % LOOK == 0 and (all(row.ended for row in watched) if watched else bool(self.ended.all())):
                return
            yield


def _static(layer: Any, room: int) -> StaticLayer:
    """Keys and values so far, in a buffer with place for `room` positions."""
    made = StaticLayer(room)
    made.update(layer.keys, layer.values)
    return made
