"""Text models inside image-and-text wrappers, run through the wrapper on text alone.

A wrapper makes positions, masks and a cache of its own. What this package runs is told all three; at load, a short
input shows whether that gives the logits of the wrapper left to itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from refusalctl.errors import ModelError
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.forward import run
from refusalctl.model.load_errors import loading

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import LanguageModel

AUTOS = ("AutoModelForCausalLM", "AutoModelForImageTextToText")
# largest difference of log-probabilities, relative to the spread of the logits
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
_TOKENS, _SHORTER = 12, 9


def is_wrapper(model: LanguageModel) -> bool:
    """Whether the text model is a part of what was opened."""
    return model.config.get_text_config() is not model.config


@torch.inference_mode()
def check_text_path(chat_model: ChatModel, name: str) -> None:
    """Raise `ModelError` where padding, explicit positions or a cache change what the wrapper says after a text."""
    model, chat = chat_model.model, chat_model.chat
    special = set(chat.tokenizer.all_special_ids)  # among them those that stand for images
    plain = [i for i in range(min(200, model.get_input_embeddings().weight.shape[0])) if i not in special][:_TOKENS]
    rows = [plain, plain[:_SHORTER]]
    with loading(f"the text part of {name}"):
        alone = [model(input_ids=torch.tensor([row], device=chat_model.device)).logits[0, -1] for row in rows]
        batch = chat.batch(rows, chat_model.device)
        padded = run(chat_model, batch, use_cache=False).logits[:, -1]
        before = chat.batch([row[:-1] for row in rows], chat_model.device)
        cache = run(chat_model, before, use_cache=True).past_key_values
        last = batch._replace(ids=batch.ids[:, -1:], position_ids=batch.position_ids[:, -1:])
        continued = run(chat_model, last, use_cache=True, cache=cache).logits[:, -1]
    worst = max(_distance(a, b) for found in (padded, continued) for a, b in zip(alone, found))
    limit = TOLERANCE.get(alone[0].dtype, TOLERANCE[torch.float32])
    if not worst <= limit:
        raise ModelError(
            f"the text part of {name} ({type(model).__name__}) gives other logits in a padded batch or from a cache "
            f"than the model by itself: off by {worst:.2g}, at most {limit:g} is rounding",
            hint="give the text model by itself, or a model of the list in docs/architectures.md",
        )


def _distance(one: Tensor, other: Tensor) -> float:
    a, b = (t.double().log_softmax(-1) for t in (one, other))
    return float((a - b).abs().max() / (a.max() - a.min()).clamp(min=1.0))
