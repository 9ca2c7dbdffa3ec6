"""Batches of prompts that are run again and again, and what one of them gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from refusalctl.model.batching import least_work, plan_batches
from refusalctl.model.chat import Batch
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.savings.beginnings import Beginning
from refusalctl.model.savings.shared_beginning import batch_behind
from refusalctl.model.transformers_types import KeyValueCache

# how many tokens of a batch cost as much as a pass does: of smollm2 on one core about 20 for reading the weights, by a
# straight line through 24 to 400 tokens, and as much again for torch and hooks. The same on every machine: batches of
# other sizes round differently, and ids must not depend on the number of threads
PASS = 48

Wanted = Literal["next", "opening"]


class BatchScores(NamedTuple):
    """One batch under an intervention: its prompts, log-probabilities of the next token (float32, on the device).

    `opening` is log P(the answer opens with one of the openings), float64, or None where it was not asked for;
    `streams` is `resid_pre` at the last position and the layers asked for, float32. All on the device.
    """

    kind: str
    indices: list[int]
    logprobs: Float[Tensor, "batch d_vocab"]
    opening: Float[Tensor, " batch"] | None
    streams: Float[Tensor, "batch n_layers d_model"]


@dataclass(frozen=True)
class Part:
    """A batch: `batch.ids` are what follows the shared beginning, `batch.mask` covers both.

    `mask` is what attention adds to its scores; None where the model makes it, which a GPU has to wait for.
    """

    kind: str
    indices: list[int]
    batch: Batch
    mask: Tensor | None = None


class BeginningPass(NamedTuple):
    """What a batch's prompts left: log-probabilities of the next token, their cache, and all layers' streams."""

    logprobs: Float[Tensor, "batch d_vocab"]
    cache: KeyValueCache | None
    streams: Tensor


def planned(
    chat_model: ChatModel,
    beginning: Beginning,
    prompts: Mapping[str, Sequence[Sequence[int]]],
    size: int,
    steps: Mapping[str, int],
) -> list[Part]:
    """Batches of each class, longest first; the shared beginning stands before the padding.

    On a processor in the sizes that make the least work, or a class of `steps` in about so many equal ones.
    """
    found = []
    small = chat_model.device.type == "cpu"
    for kind, rows in prompts.items():
        lengths = [len(row) - len(beginning) for row in rows]
        if small and kind in steps:
            plan = plan_batches(lengths, min(size, max(1, -(-len(rows) // steps[kind]))))
        elif small:
            plan = least_work(lengths, size, apiece=PASS)
        else:
            plan = plan_batches(lengths, size)
        for indices in plan:
            found.append(Part(kind, indices, batch_behind(beginning, chat_model, [rows[i] for i in indices])))
    return found
