"""How far a model's half-precision results are from its float32 ones, on the same prompts."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.model.forward import activations, last_logprobs
from refusalctl.model.hooks import Intervention
from refusalctl.model.load import ChatModel
from refusalctl.stats.refusal import kl_divergence

Prompts = Mapping[str, Sequence[str]]  # texts by class


class Outputs(NamedTuple):
    """What a model makes of prompts: next-token log-probabilities, `resid_pre` at the last position; both by class."""

    logprobs: dict[str, Float[Tensor, "n d_vocab"]]
    streams: dict[str, Float[Tensor, "n n_layers d_model"]]

    @property
    def directions(self) -> Float[Tensor, "n_layers d_model"]:
        """Difference-in-means direction of every layer, float64."""
        harmful, harmless = (self.streams[kind].double().mean(0) for kind in ("harmful", "harmless"))
        return harmful - harmless


class Deviation(NamedTuple):
    """Of half precision from float32. KL at the next token in nats; the stream's error relative to its length, the
    largest over prompts and layers; the smallest cosine over layers of the two difference-in-means directions."""

    n: int
    kl_mean: float
    kl_max: float
    other_first_token: int
    stream_max: float
    direction_cosine_min: float


def outputs(model: ChatModel, prompts: Prompts, batch_size: int) -> Outputs:
    """Plain passes over every class."""
    found = Outputs({}, {})
    for kind, texts in prompts.items():
        encoded = [model.chat.encode(text) for text in texts]
        found.logprobs[kind] = last_logprobs(model, encoded, Intervention(), batch_size)
        streams = torch.empty(len(texts), model.residual.n_layers, model.residual.d_model)
        for indices, batch in activations(model, encoded, [-1], batch_size):
            streams[indices] = batch[:, 0]
        found.streams[kind] = streams
    return found


def deviation(plain: Outputs, half: Outputs) -> Deviation:
    """`half` against `plain`, which are of the same prompts."""
    before, after = (torch.cat(list(o.logprobs.values())) for o in (plain, half))
    wide, narrow = (torch.cat(list(o.streams.values())).double() for o in (plain, half))
    kl = kl_divergence(before, after)
    error = (narrow - wide).norm(dim=-1) / wide.norm(dim=-1).clamp_min(1e-12)
    # below the first block a template's last token is the same in every prompt: there is no direction to compare
    there = plain.directions.norm(dim=-1) > 1e-6
    cosine = torch.nn.functional.cosine_similarity(plain.directions, half.directions, dim=-1)[there]
    return Deviation(
        n=len(before),
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        other_first_token=int((before.argmax(-1) != after.argmax(-1)).sum()),
        stream_max=float(error.max()),
        direction_cosine_min=float(cosine.min()),
    )
