"""How far a model's results in half precision or with quantised weights are from float32 ones, on the same prompts."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.stats.refusal import kl_divergence

Streams = Mapping[str, Float[Tensor, "k n_layers d_model"]]  # by class


class Deviation(NamedTuple):
    """Of half precision, or of quantised weights, from float32. KL at the next token in nats; the stream's error
    relative to its length, the largest over prompts and layers; the smallest cosine over layers of the two
    difference-in-means directions."""

    n: int
    kl_mean: float
    kl_max: float
    other_first_token: int
    stream_max: float
    direction_cosine_min: float


def deviation(
    logprobs: tuple[Float[Tensor, "n d_vocab"], Float[Tensor, "n d_vocab"]],
    streams: tuple[Streams, Streams],
) -> Deviation:
    """The second of each pair against the first: log-probabilities of the next token, streams by class."""
    before, after = logprobs
    wide, narrow = (torch.cat(list(s.values())).double() for s in streams)
    kl = kl_divergence(before, after)
    error = (narrow - wide).norm(dim=-1) / wide.norm(dim=-1).clamp_min(1e-12)
    first, second = (s["harmful"].double().mean(0) - s["harmless"].double().mean(0) for s in streams)
    # below the first block a template's last token is the same in every prompt: there is no direction to compare
    there = first.norm(dim=-1) > 1e-6
    return Deviation(
        n=len(before),
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        other_first_token=int((before.argmax(-1) != after.argmax(-1)).sum()),
        stream_max=float(error.max()),
        direction_cosine_min=float(torch.nn.functional.cosine_similarity(first, second, dim=-1)[there].min()),
    )
