"""The mean residual stream at the end of prompts, under an intervention."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.model.chat import Batch
from refusalctl.model.forward import plan_batches
from refusalctl.model.hooks import Intervention, intervene, record
from refusalctl.model.load import ChatModel


@torch.inference_mode()
def mean_stream(
    chat_model: ChatModel,
    encoded: Sequence[Sequence[int]],
    layers: Sequence[int],
    intervention: Intervention,
    batch_size: int,
) -> Float[Tensor, " d_model"]:
    """`resid_pre` at the last prompt position, averaged over prompts and `layers`; float64, CPU."""
    residual = chat_model.residual
    total = torch.zeros(residual.d_model, dtype=torch.float64)
    for indices in plan_batches([len(e) for e in encoded], batch_size):
        batch: Batch = chat_model.chat.batch([encoded[i] for i in indices], chat_model.device)
        out = torch.full((len(indices), 1, residual.n_layers, residual.d_model), float("nan"))
        with intervene(residual, intervention, batch.ids.shape[1]), record(residual, [-1], out):
            chat_model.model(
                input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False
            )
        total += out[:, 0, list(layers)].double().mean(1).sum(0)
    return total / len(encoded)
