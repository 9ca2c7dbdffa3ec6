"""What all prompts begin with, and its key-value cache: one row that serves every batch. No torch until it runs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from refusalctl.model.transformers_types import CacheLayer, KeyValueCache, LanguageModel

MIN_SHARED = 8  # tokens; a shorter common beginning is not worth a cache


@dataclass(frozen=True)
class Beginning:
    """Ids that every prompt begins with, none where nothing is shared, and the largest KL (nats) that sharing made."""

    ids: tuple[int, ...] = ()
    deviation: float = 0.0

    def __len__(self) -> int:
        return len(self.ids)


def common_beginning(rows: Sequence[Sequence[int]]) -> list[int]:
    """The ids that all rows share from their start, short of at least one last token of each."""
    if not rows:
        return []
    first, last = min(map(list, rows)), max(map(list, rows))
    most = min(map(len, rows)) - 1
    n = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), most)
    return first[: min(n, most)]


def keeps_all(model: LanguageModel, width: int | None = None) -> bool:
    """Whether every layer keeps every position, of prompts up to `width` tokens (None: of any length).

    Then padding may stand between a shared beginning and the rest. Windows and chunks count columns, padding
    included, and recurrent layers have no positions to keep.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    named = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    windows = [size for size in named if size] if getattr(config, "use_sliding_window", True) else []
    if kinds == {"full_attention"} and not windows:
        return True
    windowed = {"full_attention", "sliding_attention", "chunked_attention"}
    return width is not None and kinds <= windowed and bool(windows) and width < min(windows)


def run_ids(model: LanguageModel, ids: Tensor, **options: object) -> KeyValueCache:
    """The key-value cache of one row of ids [1, seq], with whatever hooks are on the model."""
    import torch
    from transformers import DynamicCache

    cache: KeyValueCache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(
            input_ids=ids,
            past_key_values=cache,
            use_cache=True,
            **options,
        )
    return cache


def holds(cache: KeyValueCache | None, n_layers: int, length: int) -> bool:
    """Whether a cache has keys and values of `length` tokens in each of its layers, and nothing else."""
    from transformers import cache_utils

    plain = (cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer)
    layers = getattr(cache, "layers", [])
    return len(layers) == n_layers and all(type(x) in plain and x.get_seq_length() == length for x in layers)


def expanded(layers: Sequence[CacheLayer], rows: int) -> list[CacheLayer]:
    """Cache layers of one row for a batch of `rows`: views, which the first write to the cache copies."""
    found = []
    for layer in layers:
        own = copy.copy(layer)
        if layer.is_initialized:
            own.keys, own.values = (x.expand(rows, -1, -1, -1) for x in (layer.keys, layer.values))
        found.append(own)
    return found


def with_layers(cache: KeyValueCache, layers: Sequence[CacheLayer]) -> KeyValueCache:
    """A cache of the same kind that holds these layers, each its own object: `cache` stays as it is."""
    made = copy.copy(cache)
    made.layers = [copy.copy(layer) for layer in layers]
    return made


def joined(below: KeyValueCache | None, above: KeyValueCache | None, layer: int) -> KeyValueCache:
    """The layers below `layer` of one cache and the others of another."""
    assert below is not None
    assert above is not None
    return with_layers(above, [*below.layers[:layer], *above.layers[layer:]])
