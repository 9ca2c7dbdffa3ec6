"""The beginning that all prompts share (the chat template's): run as one row, expanded over every batch.

The same computation in another order, where every layer keeps every position. That is asked of the configuration and of
the cache, and then proved on the prompts at hand; where the proof fails nothing is shared.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.model.chat import Batch
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.forward import last_only, run
from refusalctl.model.hooks import Intervention, on_device
from refusalctl.model.savings.beginnings import (
    MIN_SHARED,
    Beginning,
    common_beginning,
    expanded,
    holds,
    keeps_all,
    run_ids,
    with_layers,
)
from refusalctl.model.transformers_types import KeyValueCache

# KL (nats) at the next token that rounding may make between two ways to compute the same; half precision is coarse
SAME = {torch.float64: 1e-9, torch.float32: 1e-6, torch.bfloat16: 0.02, torch.float16: 0.005}

MOST_BEGUN = 2**28  # bytes of caches under different interventions


def batch_behind(beginning: Beginning, chat_model: ChatModel, rows: Sequence[Sequence[int]]) -> Batch:
    """What follows the beginning, left-padded; the mask covers both, and padding stands between them."""
    shared = len(beginning)
    rest = chat_model.chat.batch([row[shared:] for row in rows], chat_model.device)
    mask = torch.cat([rest.mask.new_ones(len(rows), shared), rest.mask], dim=1)
    return Batch(rest.ids, mask, rest.position_ids + shared)


def run_beginning(beginning: Beginning, chat_model: ChatModel) -> KeyValueCache | None:
    """The beginning's key-value cache, one row, with whatever hooks are on the model; None where there is none."""
    if not beginning.ids:
        return None
    ids = on_device(beginning.ids, chat_model.device)[None]
    return run_ids(chat_model.model, ids, **last_only(chat_model.model))


class BegunCaches:
    """The beginning's cache under one intervention after another, each run once."""

    def __init__(self, chat_model: ChatModel, beginning: Beginning) -> None:
        self.chat_model, self.beginning = chat_model, beginning
        self._known: dict[tuple[object, ...], tuple[Intervention, KeyValueCache]] = {}

    def under(self, asked: Intervention) -> KeyValueCache | None:
        """With the intervention's hooks on the model. The same one is that of the same tensors, as objects: they are
        held here, so that no other gets their ids."""
        what = (asked.kind, asked.acts_at(self.chat_model.residual.n_layers), asked.coeff, asked.strength)
        key = (*what, id(asked.direction), id(asked.mean))
        if key not in self._known:
            cache = run_beginning(self.beginning, self.chat_model)
            if cache is None:
                return None
            size = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
            while self._known and (len(self._known) + 1) * size > MOST_BEGUN:
                del self._known[next(iter(self._known))]
            self._known[key] = asked, cache
        return self._known[key][1]


def cache_for(begun: KeyValueCache | None, rows: int) -> KeyValueCache | None:
    """A beginning's cache for a batch of `rows`, which may write to it; None stays None."""
    return None if begun is None else with_layers(begun, expanded(begun.layers, rows))


def shared_beginning(chat_model: ChatModel, rows: Sequence[Sequence[int]], new_tokens: int = 0) -> Beginning:
    """What all rows share, proved on the shortest beside the longest. `new_tokens`: how many may be written behind."""
    found = tuple(common_beginning(rows))
    if len(rows) < 2 or len(found) < MIN_SHARED:
        return Beginning()
    pair = sorted(map(list, rows), key=len)[:: len(rows) - 1]
    if not keeps_all(chat_model.model, 2 * len(pair[1]) + new_tokens):
        return Beginning()
    key = (found, *map(tuple, pair))
    if key not in chat_model.proved:
        chat_model.proved[key] = _proved(chat_model, Beginning(found), pair)
    return chat_model.proved[key]


@torch.inference_mode()
def _proved(chat_model: ChatModel, beginning: Beginning, pair: Sequence[Sequence[int]]) -> Beginning:
    begun = run_beginning(beginning, chat_model)
    if not holds(begun, chat_model.residual.n_layers, len(beginning)):
        return Beginning()
    deviation = furthest(_next(chat_model, Beginning(), pair), _next(chat_model, beginning, pair))
    return Beginning(beginning.ids, deviation) if is_rounding(chat_model, deviation) else Beginning()


def _next(chat_model: ChatModel, beginning: Beginning, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch d_vocab"]:
    """Log-probabilities of the next token."""
    cache = cache_for(run_beginning(beginning, chat_model), len(rows))
    out = run(chat_model, batch_behind(beginning, chat_model, rows), use_cache=cache is not None, cache=cache)
    found: Tensor = out.logits[:, -1].float().log_softmax(-1)
    return found


def furthest(plain: Float[Tensor, "n d_vocab"], other: Float[Tensor, "n d_vocab"]) -> float:
    """The largest KL of rows of log-probabilities, nats."""
    return float((plain.exp() * (plain - other)).sum(-1).max())


def is_rounding(chat_model: ChatModel, deviation: float) -> bool:
    """Whether a KL is what rounding may make in the model's dtype; NaN is not."""
    return deviation <= SAME.get(next(chat_model.model.parameters()).dtype, 0.0)
