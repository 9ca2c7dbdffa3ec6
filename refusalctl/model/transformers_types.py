"""What is used of transformers' objects: mypy skips the library (pyproject.toml), so this is what it knows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

Arguments = tuple[Any, ...]  # what torch's hooks get of a module's call: its arguments in order,
Keywords = dict[str, Any]  # and those by name


if TYPE_CHECKING:

    class CacheLayer(Protocol):
        """Keys and values of one layer, [batch, n_kv_heads, seq, d_head]."""

        is_initialized: bool
        keys: Tensor
        values: Tensor

        def get_seq_length(self) -> int: ...

    class KeyValueCache(Protocol):
        """What a pass leaves for the tokens behind it."""

        layers: list[CacheLayer]

        def get_seq_length(self) -> int: ...

        def batch_repeat_interleave(self, repeats: int) -> None: ...

        def batch_select_indices(self, indices: Tensor) -> None: ...

    class ModelOutput(Protocol):
        """`logits`: [batch, seq, d_vocab]."""

        logits: Tensor
        past_key_values: KeyValueCache
        hidden_states: tuple[Tensor, ...]

    class TextConfig(Protocol):
        """The language model's part of a configuration."""

        num_hidden_layers: int
        hidden_size: int
        pad_token_id: int | None
        _attn_implementation: str

    class Config(TextConfig, Protocol):
        """A whole configuration, of which some models' text is one part of several."""

        id2label: Mapping[int, str]  # of a sequence classifier

        def get_text_config(self) -> TextConfig: ...

    class GenerationConfig(Protocol):
        eos_token_id: int | list[int] | None

    class Encoded(Protocol):
        """Token ids and their mask by name: lists, or tensors where those were asked for."""

        def __getitem__(self, name: str, /) -> Any: ...

        def to(self, device: torch.device | str) -> Encoded: ...

    class AddedToken(Protocol):
        content: str
        special: bool

    class Tokenizer(Protocol):
        """A tokenizer with its chat template."""

        chat_template: str | dict[str, str] | None
        added_tokens_decoder: Mapping[int, AddedToken]
        bos_token_id: int | None
        eos_token_id: int | None
        pad_token_id: int | None
        unk_token_id: int | None
        pad_token: str | None
        unk_token: str | None
        all_special_ids: list[int]
        all_special_tokens: list[str]
        model_max_length: int

        def __call__(self, text: str | Sequence[str], **options: object) -> Encoded: ...

        def __len__(self) -> int: ...

        def __hash__(self) -> int: ...

        def decode(self, ids: Sequence[int], **options: object) -> str: ...

        def pad(self, encoded: Mapping[str, Sequence[Sequence[int]]], **options: object) -> Encoded: ...

        def convert_ids_to_tokens(self, identifier: int, /) -> str: ...

        def convert_tokens_to_ids(self, token: str, /) -> int | None: ...

        def get_chat_template(self) -> str: ...

        def apply_chat_template(self, conversation: Iterable[Mapping[str, object]], **options: object) -> str: ...

    class _Embedding(nn.Module):
        weight: Tensor

    class LanguageModel(nn.Module):
        """A model of transformers, beside what every torch module has."""

        config: Config
        generation_config: GenerationConfig
        base_model: nn.Module
        device: torch.device
        dtype: torch.dtype

        def __call__(self, *ids: Tensor, **inputs: object) -> ModelOutput: ...

        def get_decoder(self) -> nn.Module: ...

        def get_input_embeddings(self) -> _Embedding: ...

        def get_output_embeddings(self) -> nn.Module | None: ...

        def generate(self, **inputs: object) -> Any: ...

else:  # transformers has no such classes to check against, but its models are torch modules
    CacheLayer = KeyValueCache = ModelOutput = TextConfig = Config = GenerationConfig = Encoded = Tokenizer = Any
    LanguageModel = nn.Module
