"""Greedy completions under an intervention, one batch at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from refusalctl.model.batching import free, plan_batches
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.hooks import Checks, Intervention, intervene
from refusalctl.model.savings import decoding_graph
from refusalctl.model.savings.beginnings import Beginning
from refusalctl.model.savings.growing_cache import with_room
from refusalctl.model.savings.shared_beginning import batch_behind, cache_for, run_beginning, shared_beginning


class GeneratedAnswer(NamedTuple):
    """One answer: its ids without padding and end token, its text, and whether the limit cut it."""

    ids: list[int]
    text: str
    truncated: bool


@torch.inference_mode()
def complete(
    chat_model: ChatModel,
    encoded: Sequence[Sequence[int]],
    intervention: Intervention,
    *,
    max_new_tokens: int,
    batch_size: int,
    done: frozenset[int] = frozenset(),
) -> Iterator[tuple[list[int], list[GeneratedAnswer], Checks]]:
    """Yield each batch's prompt indices and answers. Batches whose prompts are all in `done` are left out.

    The batch plan does not depend on `done`, so a resumed run computes the rest as an uninterrupted one.
    """
    # chosen positions are counted from a prompt's end, which padding behind a shared beginning would shift
    everywhere = intervention.positions is None
    beginning = shared_beginning(chat_model, encoded, max_new_tokens) if everywhere else Beginning()

    def answer(indices: list[int]) -> tuple[list[GeneratedAnswer], Checks]:
        batch = batch_behind(beginning, chat_model, [encoded[i] for i in indices])
        with intervene(chat_model.residual, intervention, batch.mask.shape[1]) as checks:
            begun = run_beginning(beginning, chat_model)
            answers = None
            if decoding_graph.can_replay(chat_model, begun, max_new_tokens):
                answers = decoding_graph.write(
                    chat_model, batch, cache_for(begun, len(indices)), checks, max_new_tokens
                )
                if answers is None:
                    free()
            if answers is None:
                shared = batch.ids.new_tensor(beginning.ids).expand(len(indices), -1)
                ids, cache = torch.cat([shared, batch.ids], dim=1), cache_for(begun, len(indices))
                answers = _write(chat_model, ids, batch.mask, cache, max_new_tokens)
        return [_trim(chat_model, row) for row in answers], checks

    plan = plan_batches([len(e) for e in encoded], batch_size)
    for indices, (answers, checks) in chat_model.batch_limit.batches(
        (b for b in plan if not done.issuperset(b)), answer
    ):
        yield indices, answers, checks


def _write(
    chat_model: ChatModel,
    ids: Int[Tensor, "batch width"],
    mask: Int[Tensor, "batch width"],
    cache: Any,
    max_new_tokens: int,
) -> list[list[int]]:
    """The tokens that follow each row. `cache` holds what all rows begin with; None where nothing is shared.

    A finished answer costs as much as one that is still written. With a cache that keeps every position, finished rows
    leave the batch whenever at most half of it still writes.
    """
    if cache is not None:
        cache = with_room(cache, ids.shape[1] + max_new_tokens)
    answers: list[list[int]] = [[] for _ in ids]
    rows, left = list(range(len(ids))), max_new_tokens
    while rows and left:
        criteria = [] if cache is None else [_HalfHaveEnded(chat_model.eos_ids, len(rows), ids.device)]
        out = chat_model.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=left,
            do_sample=False,
            use_cache=True,  # some models' settings switch it off
            eos_token_id=chat_model.eos_ids,
            pad_token_id=chat_model.chat.pad_id,
            stopping_criteria=StoppingCriteriaList(criteria),
            **({} if cache is None else {"past_key_values": cache}),
        )
        written = out[:, ids.shape[1] :].tolist()
        for row, tokens in zip(rows, written, strict=True):
            answers[row] += tokens
        if cache is None:
            break
        left -= len(written[0])
        going = [i for i, tokens in enumerate(written) if not set(tokens).intersection(chat_model.eos_ids)]
        rows = [rows[i] for i in going]
        if rows and left:
            cache.batch_select_indices(torch.tensor(going))
            ids = out[going]
            mask = torch.nn.functional.pad(mask[going], (0, len(written[0])), value=1)
    return answers


class _HalfHaveEnded(StoppingCriteria):
    """Stops all rows as soon as at most half of them still write."""

    def __init__(self, eos_ids: Sequence[int], rows: int, device: torch.device) -> None:
        self.eos = torch.tensor(list(eos_ids), device=device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: Tensor, _scores: Any, **_: Any) -> Any:
        self.ended |= torch.isin(input_ids[:, -1], self.eos)
        return (2 * (~self.ended).sum() <= len(self.ended)).expand(len(self.ended))


def _trim(chat_model: ChatModel, row: list[int]) -> GeneratedAnswer:
    ends = [i for i, token in enumerate(row) if token in chat_model.eos_ids]
    ids = row[: ends[0]] if ends else row
    text = chat_model.tokenizer.decode(ids, skip_special_tokens=True)
    return GeneratedAnswer(ids, text, truncated=not ends)
