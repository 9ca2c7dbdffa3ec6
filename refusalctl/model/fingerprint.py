"""A fingerprint of weights in memory, the same in float32 and bfloat16, so that a direction can say whose it is."""

import hashlib

import torch
from torch import nn

PREFIX = "sample-bf16-v1:"
_MOST = 512  # values of one tensor


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes and up to 512 evenly spaced values of every floating-point parameter, each rounded to
    bfloat16: a checkpoint in bfloat16 gives the same loaded as it is and in float32. Fine-tuning and merged adapters
    change it. A sample: it tells models apart, and proves nothing against somebody who hides a change.

    Reads a few megabytes whatever the model's size. Raises `ValueError` for weights that are not in memory.
    """
    total = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.is_meta:
            raise ValueError(f"{name} is not in memory")
        flat = parameter.detach().reshape(-1)
        total.update(f"{name}:{tuple(parameter.shape)}\n".encode())
        if not flat.is_floating_point() or not flat.numel():
            continue
        n = min(_MOST, flat.numel())
        places = torch.arange(n, device=flat.device) * (flat.numel() - 1) // max(n - 1, 1)
        values = flat[places].to(torch.bfloat16).cpu()
        total.update(values.view(torch.int16).numpy().tobytes())
    return PREFIX + total.hexdigest()
