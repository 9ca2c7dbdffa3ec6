"""A chat model in memory: weights, tokenizer, template, residual stream, and what its passes learned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from refusalctl.json_types import JsonObject
from refusalctl.model.batching import BatchLimit
from refusalctl.model.chat import Chat, end_of_turn, open_chat
from refusalctl.model.reasoning import Asked
from refusalctl.model.residual import Residual, find_residual
from refusalctl.model.savings.beginnings import Beginning
from refusalctl.model.thoughts import Reader

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import LanguageModel, Tokenizer


@dataclass
class GraphTrial:
    """Whether a GPU can repeat a model's decoding steps (None: not tried yet)."""

    works: bool | None = None


@dataclass(frozen=True)
class ChatModel:
    """A causal language model in eval mode with its chat template and a map of its residual stream.

    `batch_limit` is what its passes learned about how many prompts fit into memory at once, `proved` which beginnings
    prompts can share, `graph_trial` whether a GPU can repeat its decoding steps.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    system: str | None
    batch_limit: BatchLimit = field(default_factory=BatchLimit)
    proved: dict[tuple[tuple[int, ...], ...], Beginning] = field(default_factory=dict)
    graph_trial: GraphTrial = field(default_factory=GraphTrial)
    quantization: JsonObject | None = None  # what was done about a scheme that its checkpoint declares
    thinking: Asked = "auto"

    def asked_with(self, system: str | None) -> ChatModel:
        """The same weights under another system prompt, with all that was learned about them."""
        return replace(self, system=system)

    @cached_property
    def residual(self) -> Residual:
        return find_residual(self.model)

    @cached_property
    def chat(self) -> Chat:
        n_embeddings = len(self.model.get_input_embeddings().weight)
        return open_chat(self.tokenizer, self.system, n_embeddings, self.thinking)

    @cached_property
    def reader(self) -> Reader:
        """Tells thought from answer in what the model wrote."""
        return Reader(self.tokenizer, self.chat.thinking)

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device of the input embedding."""
        return self.model.get_input_embeddings().weight.device

    @cached_property
    def eos_ids(self) -> list[int]:
        """Tokens that end an answer: the model's own, the tokenizer's, and the template's end of turn."""
        own = self.model.generation_config.eos_token_id
        ids = own if isinstance(own, list) else [own]
        ids = [*ids, self.tokenizer.eos_token_id, end_of_turn(self.tokenizer)]
        return sorted({int(i) for i in ids if i is not None})
