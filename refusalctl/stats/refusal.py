"""Refusal score and KL divergence: what a candidate direction is scored by."""

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.errors import ModelError


def refusal_score(logprob: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """log p - log(1 - p) for log p = log-probability of opening with a refusal; float64.

    The log-odds of Arditi et al. 2024 (section 2.3 and appendix B), over opening strings instead of single
    tokens. Raises `ModelError` for NaN.
    """
    p = logprob.to(torch.float64)
    if torch.isnan(p).any():
        raise ModelError("a refusal score is NaN", hint="try --dtype float32")
    p = p.clamp(max=-1e-12)  # p = 1 up to rounding would make the log-odds infinite
    return p - torch.log(-torch.expm1(p))


def kl_divergence(baseline: Float[Tensor, "n d_vocab"], intervened: Float[Tensor, "n d_vocab"]) -> Float[Tensor, " n"]:
    """KL(baseline || intervened) in nats per prompt, from log-probabilities at the last prompt position.

    Raises `ModelError` for NaN.
    """
    p, q = baseline.to(torch.float64), intervened.to(torch.float64)
    divergence = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    if torch.isnan(divergence).any():
        raise ModelError("a KL divergence is NaN", hint="try --dtype float32")
    return divergence
