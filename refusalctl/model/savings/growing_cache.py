"""A key-value cache that an answer grows in without being copied at every token."""

from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from refusalctl.model.transformers_types import KeyValueCache


class _GrowingLayer(DynamicLayer):
    """Keys and values are views of two buffers that are allocated once; transformers' own layer copies both whole."""

    keys: Tensor
    values: Tensor

    def __init__(self, layer: DynamicLayer, capacity: int) -> None:
        super().__init__()
        for name, value in vars(layer).items():
            setattr(self, name, value)
        self.capacity = capacity  # positions
        self.rooms: list[Tensor] = []

    def update(
        self,
        key_states: Float[Tensor, "batch n_kv_heads seq d_head"],
        value_states: Float[Tensor, "batch n_kv_heads seq d_value"],
        *_args: object,
        **_kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.rooms or end > self.capacity:
            self.capacity = max(self.capacity, end)
            self.rooms = [self._room(known, start) for known in (self.keys, self.values)]
        for room, new in zip(self.rooms, (key_states, value_states), strict=True):
            room[..., start:end, :] = new
        self.keys, self.values = (room[..., :end, :] for room in self.rooms)
        return self.keys, self.values

    def _room(self, known: Tensor, start: int) -> Tensor:
        room = known.new_empty((*known.shape[:-2], self.capacity, known.shape[-1]))
        room[..., :start, :] = known
        return room

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.rooms = []


def with_room(cache: KeyValueCache, capacity: int) -> KeyValueCache:
    """The cache itself, its plain layers able to hold `capacity` positions; layers of other kinds stay as they are."""
    cache.layers = [
        _GrowingLayer(layer, capacity) if type(layer) is DynamicLayer and layer.is_initialized else layer
        for layer in cache.layers
    ]
    return cache
