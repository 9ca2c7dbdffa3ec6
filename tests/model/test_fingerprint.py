"""The fingerprint of weights: the same in both precisions, another after any training."""

from __future__ import annotations

import torch

from refusalctl.model.fingerprint import PREFIX, weights_fingerprint
from tests import tiny


def test_precision_does_not_change_it_and_another_weight_does() -> None:
    stored = tiny.model().to(torch.bfloat16)
    found = weights_fingerprint(stored)
    assert found.startswith(PREFIX)
    assert weights_fingerprint(stored.float()) == found
    with torch.no_grad():
        stored.model.layers[1].mlp.down_proj.weight.mul_(1.02)
    assert weights_fingerprint(stored) != found
