"""Rows in batches: longest first, and fewer at once when the device's memory runs out."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from refusalctl.errors import ModelError
from refusalctl.json_types import JsonObject

T = TypeVar("T")


def plan_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of each batch: longest first, so that memory runs out at once or not at all, and padding is small."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def least_work(lengths: Sequence[int], batch_size: int, *, apiece: int) -> list[list[int]]:
    """The same in smaller batches where less padding is worth it: those of the fewest tokens, padding included, when
    every batch costs `apiece` tokens more."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    work, begins = [0], [0]  # of the first `end` in order: the least work, and where its last batch begins
    for end in range(1, len(order) + 1):
        tried = [(work[i] + lengths[order[i]] * (end - i) + apiece, i) for i in range(max(0, end - batch_size), end)]
        least, begin = min(tried)
        work.append(least)
        begins.append(begin)
    batches, end = [], len(order)
    while end:
        batches.append(order[begins[end] : end])
        end = begins[end]
    return batches[::-1]


@dataclass(frozen=True)
class Padding:
    """Whether rows are padded. `deviation`: the largest relative difference that padding made; None where it could not
    be tried. `noise`: what a batch without padding made, where that was asked for."""

    together: bool
    deviation: float | None
    tolerance: float
    noise: float | None = None
    reason: str = ""

    def as_json(self) -> JsonObject:
        found: JsonObject = {"together": self.together, "deviation": self.deviation, "tolerance": self.tolerance}
        return found | {"noise": self.noise, "reason": self.reason}


@dataclass
class BatchLimit:
    """How many rows fit into memory at once. None until memory ran out once; every pass of a model learns from it.

    `padding`: whether rows may be padded (None: not proved yet, see `model/padding.py`).
    """

    most: int | None = None
    padding: Padding | None = None

    def size(self, batch_size: int) -> int:
        """`batch_size`, or what fits; 1 where rows must not be padded."""
        if self.padding is not None and not self.padding.together:
            return 1
        return batch_size if self.most is None else min(batch_size, self.most)

    def batches(self, plan: Iterable[Sequence[int]], work: Callable[[list[int]], T]) -> Iterator[tuple[list[int], T]]:
        """Yield each batch's indices and what `work` makes of them; a batch that does not fit is taken in parts.

        Raises `ModelError` when a single row does not fit.
        """
        for planned in plan:
            rest = list(planned)
            while rest:
                indices = rest[: self.size(len(rest))]
                found = self.attempt(partial(work, indices), len(indices))
                if found is not None:
                    yield indices, found
                    rest = rest[len(indices) :]

    def attempt(self, work: Callable[[], T], rows: int) -> T | None:
        """What `work` gives with that many rows at once, or None where memory ran out: `most` is then half of them."""
        try:
            return work()
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            if rows == 1:
                raise ModelError(
                    "a single prompt does not fit into the device's memory",
                    hint="try --dtype bfloat16, a larger device or --device shard",
                ) from error
        # out of the handler: the error's traceback holds the tensors that have to go
        self.most = self.size(-(-rows // 2))
        free()
        return None


def _out_of_memory(error: RuntimeError) -> bool:
    """CUDA's own error, or another backend's, which says so in words."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


def free() -> None:
    """Give memory that nothing uses any more back to the machine."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
