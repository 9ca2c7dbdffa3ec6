"""What a model makes of prompts in plain passes, to be compared with another dtype's."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.model.chat_model import ChatModel
from refusalctl.model.forward import activations, last_logprobs
from refusalctl.model.hooks import Intervention


class Outputs(NamedTuple):
    """Log-probabilities of the next token, classes in order, and by class `resid_pre` at the last position."""

    logprobs: Float[Tensor, "n d_vocab"]
    streams: dict[str, Float[Tensor, "k n_layers d_model"]]


def outputs(model: ChatModel, prompts: Mapping[str, Sequence[str]], batch_size: int) -> Outputs:
    """Of texts by class."""
    logprobs, streams = [], {}
    for kind, texts in prompts.items():
        encoded = [model.chat.encode(text) for text in texts]
        logprobs.append(last_logprobs(model, encoded, Intervention(), batch_size))
        found = torch.empty(len(texts), model.residual.n_layers, model.residual.d_model)
        for indices, batch in activations(model, encoded, [-1], batch_size):
            found[indices] = batch[:, 0]
        streams[kind] = found
    return Outputs(torch.cat(logprobs), streams)
