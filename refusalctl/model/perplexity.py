"""How well a model predicts plain text, in bits per byte so that tokenizers and scripts can be compared."""

from collections.abc import Sequence
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.model.batching import plan_batches
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.control_tokens import neutral
from refusalctl.model.finite import require_finite


@torch.inference_mode()
def bits_per_byte(chat_model: ChatModel, texts: Sequence[str], batch_size: int) -> Float[Tensor, " n_texts"]:
    """-log2 P(text) / UTF-8 bytes of each text, without chat template; float64, CPU. NaN for an empty text.

    The first token is predicted from the tokenizer's beginning-of-text token, or its end-of-text token where it has
    no other, as in pre-training on joined documents.
    """
    tokenizer = chat_model.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        start = chat_model.chat.pad_id
    clean = [neutral(tokenizer, text) for text in texts]
    encoded = [[start, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in clean]
    result = torch.full((len(texts),), float("nan"), dtype=torch.float64)
    some = [i for i, ids in enumerate(encoded) if len(ids) > 1]

    def bits(indices: list[int]) -> Tensor:
        batch = chat_model.chat.batch([encoded[some[i]] for i in indices], chat_model.device)
        logits = chat_model.model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False
        ).logits
        found = logits[:, :-1].float().log_softmax(-1).gather(-1, batch.ids[:, 1:, None])[..., 0].double()
        predicted = (batch.mask[:, 1:] * batch.mask[:, :-1]).double()
        total: Tensor = -(found * predicted).sum(-1).cpu() / log(2)
        require_finite(total[:, None], chat_model.model, "measuring perplexity")
        return total

    for indices, found in chat_model.batch_limit.batches(
        plan_batches([len(encoded[i]) for i in some], batch_size), bits
    ):
        chosen = [some[i] for i in indices]
        result[chosen] = found / torch.tensor([len(clean[i].encode()) for i in chosen], dtype=torch.float64)
    return result
