"""Greedy completions under an intervention, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from refusalctl.model.batching import plan_batches
from refusalctl.model.hooks import Checks, Intervention, intervene
from refusalctl.model.load import ChatModel
from refusalctl.model.sharing import Beginning, cache_for, shared_beginning


class Generated(NamedTuple):
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
) -> Iterator[tuple[list[int], list[Generated], Checks]]:
    """Yield each batch's prompt indices and answers. Batches whose prompts are all in `done` are left out.

    The batch plan does not depend on `done`, so a resumed run computes the rest as an uninterrupted one.
    """
    # chosen positions are counted from a prompt's end, which padding behind a shared beginning would shift
    everywhere = intervention.positions is None
    beginning = shared_beginning(chat_model, encoded, max_new_tokens) if everywhere else Beginning()

    def answer(indices: list[int]) -> tuple[list[Generated], Checks]:
        batch = beginning.batch(chat_model, [encoded[i] for i in indices])
        width = batch.mask.shape[1]
        with intervene(chat_model.residual, intervention, width) as checks:
            cache = cache_for(beginning.run(chat_model), len(indices))
            shared = batch.ids.new_tensor(beginning.ids).expand(len(indices), -1)
            out = chat_model.model.generate(
                input_ids=torch.cat([shared, batch.ids], dim=1),
                attention_mask=batch.mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                use_cache=True,  # some models' settings switch it off
                eos_token_id=chat_model.eos_ids,
                pad_token_id=chat_model.chat.pad_id,
                **({} if cache is None else {"past_key_values": cache}),
            )
        return [_trim(chat_model, row) for row in out[:, width:].tolist()], checks

    plan = plan_batches([len(e) for e in encoded], batch_size)
    for indices, (answers, checks) in chat_model.room.batches((b for b in plan if not done.issuperset(b)), answer):
        yield indices, answers, checks


def _trim(chat_model: ChatModel, row: list[int]) -> Generated:
    ends = [i for i, token in enumerate(row) if token in chat_model.eos_ids]
    ids = row[: ends[0]] if ends else row
    text = chat_model.tokenizer.decode(ids, skip_special_tokens=True)
    return Generated(ids, text, truncated=not ends)
