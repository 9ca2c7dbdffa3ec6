"""How well a model predicts text, as it is or under an intervention: nats of plain texts and of answers."""

from collections.abc import Iterator, Sequence
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.errors import BadInput
from refusalctl.model.batching import plan_batches
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.context import positions_of
from refusalctl.model.control_tokens import neutral
from refusalctl.model.finite import require_finite
from refusalctl.model.hooks import Checks, Intervention, intervene

AT_ONCE = 2048  # tokens whose logits over the whole vocabulary are held at once
WINDOW = 1024  # tokens that see each other: longer texts are predicted in parts


class TokenText(NamedTuple):
    """Token ids of a text, or of a prompt and its answer: all from `start` on are predicted."""

    ids: list[int]
    start: int = 1


def bits_per_byte(chat_model: ChatModel, texts: Sequence[str], batch_size: int) -> Float[Tensor, " n_texts"]:
    """-log2 P(text) / UTF-8 bytes of each text, without chat template; float64, CPU. NaN for an empty text."""
    clean = [neutral(chat_model.tokenizer, text) for text in texts]
    parts = [windows(chat_model, text, None) for text in clean]
    result = torch.full((len(texts),), float("nan"), dtype=torch.float64)
    some = [i for i, each in enumerate(parts) if each]
    for index, nats in nats_of(chat_model, [parts[i][0] for i in some], Intervention(), batch_size, at_once=None):
        result[some[index]] = nats / log(2) / len(clean[some[index]].encode())
    return result


def windows(chat_model: ChatModel, text: str, most: int | None = WINDOW) -> list[TokenText]:
    """A plain text in parts of up to `most` tokens (None: one part), none for an empty one; no chat template.

    The first token of each part is predicted from the tokenizer's beginning-of-text token, or its end-of-text token
    where it has no other, as in pre-training on joined documents.
    """
    tokenizer = chat_model.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        start = chat_model.chat.pad_id
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    room = positions_of(chat_model.model.config).most
    step = len(ids) if most is None else max(1, min(most, room or most) - 1)
    return [TokenText([start, *ids[at : at + step]]) for at in range(0, len(ids), max(step, 1))]


@torch.inference_mode()
def nats_of(
    chat_model: ChatModel,
    sequences: Sequence[TokenText],
    intervention: Intervention,
    batch_size: int,
    checks: Checks | None = None,
    done: frozenset[int] = frozenset(),
    at_once: int | None = AT_ONCE,
) -> Iterator[tuple[int, float]]:
    """-log P of each sequence's predicted tokens in nats, float64, with its index; batches that are all `done` are
    left out. What the hooks saw is added to `checks`. `at_once`: most tokens in a batch, None: whatever `batch_size`
    rows hold.

    Raises `BadInput` for an intervention at chosen positions, which count from a prompt's end: a text has none.
    """
    if intervention.positions is not None:
        raise BadInput(
            "an intervention at chosen positions of the prompt has no meaning for the loss of a text",
            hint="leave --at-positions out",
        )

    def nats(indices: list[int]) -> Tensor:
        batch = chat_model.chat.batch([sequences[i].ids for i in indices], chat_model.device)
        with intervene(chat_model.residual, intervention) as seen:
            logits = chat_model.model(
                input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False
            ).logits
        if checks is not None:
            checks.merge(seen)
        width = batch.ids.shape[1]
        firsts = [width - len(sequences[i].ids) + sequences[i].start for i in indices]  # rows are padded on the left
        predicted = torch.arange(1, width, device=logits.device) >= torch.tensor(firsts, device=logits.device)[:, None]
        target = batch.ids[:, 1:, None].to(logits.device)
        found = logits[:, :-1].float().log_softmax(-1).gather(-1, target)[..., 0].double()
        total: Tensor = -(found * predicted).sum(-1).cpu()
        require_finite(total[:, None], chat_model.model, "measuring perplexity")
        return total

    lengths = [len(each.ids) for each in sequences]
    rows = batch_size if at_once is None else max(1, min(batch_size, at_once // max(lengths, default=1)))
    plan = [each for each in plan_batches(lengths, rows) if not done.issuperset(each)]
    for indices, found in chat_model.batch_limit.batches(plan, nats):
        yield from zip(indices, found.tolist(), strict=True)
