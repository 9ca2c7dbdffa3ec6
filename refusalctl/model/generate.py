"""Greedy completions under an intervention, one batch at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from refusalctl.model.batching import free, plan_batches
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.finite import AllFinite
from refusalctl.model.forward import located
from refusalctl.model.hooks import Checks, Intervention, intervene
from refusalctl.model.savings import decoding_graph
from refusalctl.model.savings.beginnings import Beginning
from refusalctl.model.savings.growing_cache import with_room
from refusalctl.model.savings.shared_beginning import batch_behind, cache_for, run_beginning, shared_beginning
from refusalctl.model.thoughts import Parts, Written


class GeneratedAnswer(NamedTuple):
    """One answer: its ids without padding, thought and end token, its text, whether a limit cut it, and the thought."""

    ids: list[int]
    text: str
    truncated: bool
    thought: Parts = Parts([], "")


class Limits(NamedTuple):
    """How many tokens an answer may have, and a thought before it."""

    max_new: int
    max_think: int

    def most(self, chat_model: ChatModel) -> int:
        """Tokens of thought and answer together."""
        return self.max_new + (self.max_think if chat_model.reader.watches else 0)

    def ends(self, chat_model: ChatModel) -> list[int]:
        """Tokens that end the turn wherever they are written."""
        return [i for i in chat_model.eos_ids if i not in chat_model.reader.soft_ends]

    def watched(self, chat_model: ChatModel, rows: int) -> list[Written]:
        """What keeps an eye on each row of a model that thinks; empty for all others."""
        if not chat_model.reader.watches:
            return []
        ends = frozenset(chat_model.eos_ids)
        return [Written(chat_model.reader, ends, self.max_think, self.max_new) for _ in range(rows)]


@torch.inference_mode()
def complete(
    chat_model: ChatModel,
    encoded: Sequence[Sequence[int]],
    intervention: Intervention,
    *,
    max_new_tokens: int,
    batch_size: int,
    max_think_tokens: int = 0,
    done: frozenset[int] = frozenset(),
) -> Iterator[tuple[list[int], list[GeneratedAnswer], Checks]]:
    """Yield each batch's prompt indices and answers. Batches whose prompts are all in `done` are left out.

    A thought before the answer has up to `max_think_tokens` of its own. The batch plan does not depend on `done`, so a
    resumed run computes the rest as an uninterrupted one.

    Raises `ModelError` for logits that are not finite.
    """
    limits = Limits(max_new_tokens, max_think_tokens)
    most = limits.most(chat_model)
    # chosen positions are counted from a prompt's end, which padding behind a shared beginning would shift
    everywhere = intervention.positions is None
    beginning = shared_beginning(chat_model, encoded, most) if everywhere else Beginning()

    def answer(indices: list[int]) -> tuple[list[GeneratedAnswer], Checks]:
        batch = batch_behind(beginning, chat_model, [encoded[i] for i in indices])
        with intervene(chat_model.residual, intervention, batch.mask.shape[1]) as checks:
            begun = run_beginning(beginning, chat_model)
            answers = None
            if decoding_graph.can_replay(chat_model, begun, most):
                watched = limits.watched(chat_model, len(indices))
                answers = decoding_graph.write(chat_model, batch, cache_for(begun, len(indices)), checks, most, watched)
                if answers is None:
                    free()
            if answers is None:
                shared = batch.ids.new_tensor(beginning.ids).expand(len(indices), -1)
                ids, cache = torch.cat([shared, batch.ids], dim=1), cache_for(begun, len(indices))
                answers = _write(chat_model, ids, batch.mask, cache, limits)
        return [_trim(chat_model, row, limits) for row in answers], checks

    def located_answer(indices: list[int]) -> tuple[list[GeneratedAnswer], Checks]:
        with located(chat_model, [encoded[i] for i in indices]):
            return answer(indices)

    plan = plan_batches([len(e) for e in encoded], batch_size)
    for indices, (answers, checks) in chat_model.batch_limit.batches(
        (b for b in plan if not done.issuperset(b)), located_answer
    ):
        yield indices, answers, checks


def _write(
    chat_model: ChatModel,
    ids: Int[Tensor, "batch width"],
    mask: Int[Tensor, "batch width"],
    cache: Any,
    limits: Limits,
) -> list[list[int]]:
    """The tokens that follow each row. `cache` holds what all rows begin with; None where nothing is shared.

    A finished answer costs as much as one that is still written. With a cache that keeps every position, finished rows
    leave the batch whenever at most half of it still writes.
    """
    left, ends = limits.most(chat_model), limits.ends(chat_model)
    if cache is not None:
        cache = with_room(cache, ids.shape[1] + left)
    answers: list[list[int]] = [[] for _ in ids]
    rows, watched = list(range(len(ids))), limits.watched(chat_model, len(ids))
    while rows and left:
        criteria: list[StoppingCriteria] = []
        if watched:
            criteria = [_Watching([watched[row] for row in rows], ids.shape[1], by_half=cache is not None)]
        elif cache is not None:
            criteria = [_HalfHaveEnded(ends, len(rows), ids.device)]
        finite = AllFinite()
        out = chat_model.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=left,
            do_sample=False,
            use_cache=True,  # some models' settings switch it off
            eos_token_id=ends,
            pad_token_id=chat_model.chat.pad_id,
            logits_processor=LogitsProcessorList([finite]),
            stopping_criteria=StoppingCriteriaList(criteria),
            **({} if cache is None else {"past_key_values": cache}),
        )
        finite.require(chat_model.model, "writing answers")
        written = out[:, ids.shape[1] :].tolist()
        for row, tokens in zip(rows, written, strict=True):
            answers[row] += tokens
        if cache is None:
            break
        left -= len(written[0])
        going = [i for i, row in enumerate(rows) if not _has_ended(row, written[i], watched, ends)]
        rows = [rows[i] for i in going]
        if rows and left:
            cache.batch_select_indices(torch.tensor(going))
            ids = out[going]
            mask = torch.nn.functional.pad(mask[going], (0, len(written[0])), value=1)
    return answers


def _has_ended(row: int, tokens: Sequence[int], watched: Sequence[Written], ends: Sequence[int]) -> bool:
    return watched[row].ended if watched else bool(set(tokens).intersection(ends))


class _Watching(StoppingCriteria):
    """Stops each row at its own end, and all of them as soon as at most half still write (`by_half`)."""

    def __init__(self, rows: Sequence[Written], width: int, *, by_half: bool) -> None:
        self.rows, self.width, self.by_half = rows, width, by_half

    def __call__(self, input_ids: Tensor, _scores: Any, **_: Any) -> Any:
        ended = [row.push(token) for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True)]
        if self.by_half and 2 * ended.count(False) <= len(ended):
            ended = [True] * len(ended)
        return torch.tensor(ended, device=input_ids.device)


class _HalfHaveEnded(StoppingCriteria):
    """Stops all rows as soon as at most half of them still write."""

    def __init__(self, eos_ids: Sequence[int], rows: int, device: torch.device) -> None:
        self.eos = torch.tensor(list(eos_ids), device=device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: Tensor, _scores: Any, **_: Any) -> Any:
        self.ended |= torch.isin(input_ids[:, -1], self.eos)
        return (2 * (~self.ended).sum() <= len(self.ended)).expand(len(self.ended))


def _trim(chat_model: ChatModel, row: list[int], limits: Limits) -> GeneratedAnswer:
    watched = limits.watched(chat_model, 1)
    if watched:
        for token in row:
            if watched[0].push(token):
                break
        ids, truncated = watched[0].ids, watched[0].truncated
    else:
        ends = [i for i, token in enumerate(row) if token in chat_model.eos_ids]
        ids, truncated = row[: ends[0]] if ends else row, not ends
    found = chat_model.reader.read(ids)
    return GeneratedAnswer(found.ids, found.text, truncated, found)
