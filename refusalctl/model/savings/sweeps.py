"""The same prompts run again and again, each time under another intervention: what does not change is computed once.

- The beginning that all prompts share (the chat template's) runs as one row per intervention; its key-value cache is
  expanded over the batches.
- An addition at layer l changes nothing below l: the stream that enters l is kept from one plain pass, and the blocks
  below are passed over.
- On a GPU the passes of an ablation are recorded once and repeated with every other direction in its place.

All are exact up to rounding where every layer keeps every position and blocks pass on nothing but the stream. That is
asked of the configuration and of the cache, and then proved on the prompts at hand without the savings; where the proof
fails the plain path is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from refusalctl.json_types import JsonObject
from refusalctl.model.batching import plan_batches
from refusalctl.model.chat import Batch
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.finite import is_broken, not_finite
from refusalctl.model.forward import located, opened, run
from refusalctl.model.hooks import Checks, Intervention, intervene, on_device, record
from refusalctl.model.savings.beginnings import Beginning, holds, joined, with_layers
from refusalctl.model.savings.cuda_graphs import UNRECORDABLE, CapturedPass, can_record, causal_mask, repeated
from refusalctl.model.savings.shared_beginning import (
    batch_behind,
    cache_for,
    furthest,
    is_rounding,
    run_beginning,
    shared_beginning,
)
from refusalctl.model.savings.skipped_layers import PlainPass, entering, watching
from refusalctl.model.transformers_types import KeyValueCache

MOST_KEPT = 2 * 2**30  # bytes of kept streams; beyond that, additions run all layers
FEW = 10  # additions; keeping streams and proving them costs as much as it saves on about so many

T = TypeVar("T")
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
class _Part:
    """A batch: `batch.ids` are what follows the shared beginning, `batch.mask` covers both.

    `mask` is what attention adds to its scores; None where the model makes it, which a GPU has to wait for.
    """

    kind: str
    indices: list[int]
    batch: Batch
    mask: Tensor | None = None


class _BeginningPass(NamedTuple):
    """What a batch's prompts left: log-probabilities of the next token, their cache, and all layers' streams."""

    logprobs: Float[Tensor, "batch d_vocab"]
    cache: KeyValueCache | None
    streams: Tensor


class Sweeps:
    """Prompts by class, with the openings that their scores ask for and the layers whose streams are wanted.

    `additions` is how many are to come (None: many). `fast` False computes everything every time.

    `shared` is the number of tokens that run once, `skips` whether additions pass over the layers below them, `repeats`
    whether ablations are recorded, and `deviation` the largest KL (nats) that any of it made on the prompts it was
    proved on.
    """

    def __init__(
        self,
        chat_model: ChatModel,
        prompts: Mapping[str, Sequence[Sequence[int]]],
        openings: Sequence[Sequence[int]],
        batch_size: int,
        *,
        layers: Sequence[int] = (),
        additions: int | None = None,
        fast: bool = True,
    ) -> None:
        self.chat_model, self.openings, self.batch_size = chat_model, openings, batch_size
        self.layers = list(layers)
        self.prompts = {kind: list(rows) for kind, rows in prompts.items()}
        self.fast, self.deviation = fast, 0.0
        self.many = additions is None or additions >= FEW
        self.beginning = Beginning()
        self.skips = False
        self._plain: list[PlainPass] = []
        self._repeated: dict[frozenset[str], CapturedPass[list[_BeginningPass]] | None] = {}
        self.parts: list[_Part] = []
        self._fit(self._prepare)

    @property
    def shared(self) -> int:
        return len(self.beginning)

    def as_json(self) -> JsonObject:
        """What a run keeps about its savings."""
        found: JsonObject = {"shared_tokens": self.shared, "skips_layers": self.skips}
        return found | {"repeats_passes": self.repeats, "deviation_nats": self.deviation}

    @property
    def repeats(self) -> bool:
        return any(each is not None for each in self._repeated.values())

    @torch.inference_mode()
    def run(
        self, intervention: Intervention, wanted: Mapping[str, Wanted], checks: Checks | None = None
    ) -> list[BatchScores]:
        """Every batch of the classes in `wanted` under one intervention on all token positions.

        What its hooks saw is added to `checks`, which the caller verifies before it keeps anything.
        """
        assert intervention.positions is None

        def swept() -> list[BatchScores]:
            parts = [(i, part) for i, part in enumerate(self.parts) if part.kind in wanted]
            whole = intervention.kind == "ablate" and intervention.strength == 1.0  # what is recorded
            again = self._repeated.get(frozenset(wanted)) if whole else None
            if again is None:
                found, seen = self._once(intervention, parts, wanted)
                if whole and self.many and frozenset(wanted) not in self._repeated:
                    self._repeated[frozenset(wanted)] = self._record(intervention, parts, found)
            else:
                passed, seen = again.run(intervention)
                found = self._continued(intervention, parts, passed, wanted, seen)
            self._require_finite(found)
            if checks is None:
                seen.verify(self.chat_model.model)
            else:
                checks.merge(seen)
            return found

        return self._fit(swept)

    def _require_finite(self, found: Sequence[BatchScores]) -> None:
        """Raises `NotFinite`; the device is asked once for all batches."""
        broken = [is_broken(ran.logprobs) for ran in found]
        broken += [torch.isnan(ran.opening).any() for ran in found if ran.opening is not None]
        if bool(torch.stack([each.to(self.chat_model.device) for each in broken]).any()):
            rows = next(iter(self.prompts.values()))[: self._size()]
            with located(self.chat_model, rows):
                raise not_finite(self.chat_model.model, "scoring prompts", "logits")

    def _once(
        self, intervention: Intervention, parts: Sequence[tuple[int, _Part]], wanted: Mapping[str, Wanted]
    ) -> tuple[list[BatchScores], Checks]:
        layer = self._unchanged_below(intervention)
        with intervene(self.chat_model.residual, intervention) as seen:
            beginning = self._begin(layer)
            found = [self._run_part(i, part, beginning, layer, wanted[part.kind]) for i, part in parts]
        return found, seen

    # --- passes that a GPU repeats -----------------------------------------------------------------------------

    def _record(
        self, intervention: Intervention, parts: Sequence[tuple[int, _Part]], plain: Sequence[BatchScores]
    ) -> CapturedPass[list[_BeginningPass]] | None:
        """The passes of an ablation, if they can be recorded and give what `plain` holds."""
        if not all(part.mask is not None for _, part in parts):
            return None
        longer = max(map(len, self.openings), default=1) > 1

        def passes() -> list[_BeginningPass]:
            beginning = run_beginning(self.beginning, self.chat_model)
            return [self._pass(i, part, beginning, 0, keep=longer) for i, part in parts]

        found = repeated(self.chat_model.residual, intervention, passes)
        if found is None:
            return None
        assert intervention.direction is not None
        # another direction, too: one that does not get to its place would be measured against itself
        other = replace(intervention, direction=intervention.direction.roll(1))
        wanted: dict[str, Wanted] = {part.kind: "next" for _, part in parts}
        for asked, ran in ((intervention, plain), (other, self._once(other, parts, wanted)[0])):
            passed, seen = found.run(asked)
            seen.verify(self.chat_model.model)
            worst = [furthest(a.logprobs, b.logprobs) for a, b in zip(ran, passed)]
            if not all(is_rounding(self.chat_model, each) for each in worst):
                return None
            self.deviation = max(self.deviation, *worst)
        return found

    def _continued(
        self,
        intervention: Intervention,
        parts: Sequence[tuple[int, _Part]],
        passed: Sequence[_BeginningPass],
        wanted: Mapping[str, Wanted],
        seen: Checks,
    ) -> list[BatchScores]:
        """Openings behind prompts that were repeated; the recorded tensors are left as they are."""
        own = [
            _BeginningPass(
                p.logprobs.clone(), None if p.cache is None else with_layers(p.cache, p.cache.layers), p.streams
            )
            for p in passed
        ]
        longer = max(map(len, self.openings), default=1) > 1 and "opening" in wanted.values()
        with intervene(self.chat_model.residual, intervention) if longer else nullcontext(Checks()) as more:
            found = [self._opened(part, one, wanted[part.kind]) for (_, part), one in zip(parts, own)]
        seen.merge(more)
        return found

    # --- batches -----------------------------------------------------------------------------------------------

    def _fit(self, work: Callable[[], T]) -> T:
        """What `work` gives; where memory runs out, it is done again with smaller batches."""
        while True:
            rows = max((len(part.indices) for part in self.parts), default=self._size())
            found = self.chat_model.batch_limit.attempt(work, rows)
            if found is not None:
                return found
            if work != self._prepare:
                self._fit(self._prepare)

    def _size(self) -> int:
        return self.chat_model.batch_limit.size(self.batch_size)

    def _prepare(self) -> bool:
        """Plan the batches, and save what can be saved."""
        self.beginning, self.skips, self._plain, self._repeated = Beginning(), False, [], {}
        if self.fast:
            self.beginning = shared_beginning(self.chat_model, [row for rows in self.prompts.values() for row in rows])
            self.deviation = max(self.deviation, self.beginning.deviation)
        self.parts = self._plan()
        if self.fast and self.many:
            self._make_masks()
            self._skip()
        return True

    def _plan(self) -> list[_Part]:
        """Batches of each class, longest first; the shared beginning stands before the padding."""
        return [
            _Part(kind, indices, batch_behind(self.beginning, self.chat_model, [rows[i] for i in indices]))
            for kind, rows in self.prompts.items()
            for indices in plan_batches([len(row) for row in rows], self._size())
        ]

    @torch.inference_mode()
    def _make_masks(self) -> None:
        """Masks beforehand, if a GPU gains by it and they give the same."""
        # a shared beginning says that every layer sees every position, which these masks take for granted
        if not self.beginning or not can_record(self.chat_model):
            return
        dtype = next(self.chat_model.model.parameters()).dtype
        made = [replace(part, mask=causal_mask(part.batch, dtype)) for part in self.parts]
        plain = self._probe(Intervention())
        self.parts, before = made, self.parts
        try:
            same = self._same(plain, self._probe(Intervention()))
        except UNRECORDABLE:
            same = False
        if not same:
            self.parts = before

    def _begin(self, layer: int) -> KeyValueCache | None:
        """The shared beginning's cache under the hooks that are on, complete in all layers."""
        if not self.beginning or not layer:
            return run_beginning(self.beginning, self.chat_model)
        with entering(self.chat_model.residual, layer, self._plain[0]):
            cache = run_beginning(self.beginning, self.chat_model)
        return joined(self._plain[0].cache, cache, layer)

    def _run_part(
        self, index: int, part: _Part, beginning: KeyValueCache | None, layer: int, wanted: Wanted
    ) -> BatchScores:
        longer = wanted == "opening" and max(map(len, self.openings), default=1) > 1
        passed = self._pass(index, part, beginning, layer, keep=longer)
        if layer and longer:  # blocks that were passed over wrote nothing
            passed = passed._replace(cache=joined(self._plain[1 + index].cache, passed.cache, layer))
        return self._opened(part, passed, wanted)

    def _pass(
        self, index: int, part: _Part, beginning: KeyValueCache | None, layer: int, *, keep: bool
    ) -> _BeginningPass:
        """A batch's prompts behind the beginning; `keep`: with the cache that they leave."""
        given = cache_for(beginning, len(part.indices))
        residual = self.chat_model.residual
        shape = (len(part.indices), 1, residual.n_layers, residual.d_model)
        streams = torch.full(shape, float("nan"), device=self.chat_model.device) if self.layers else torch.empty(0)
        with (
            entering(residual, layer, self._plain[1 + index]) if layer else nullcontext(),
            record(residual, [-1], streams) if self.layers else nullcontext(),
        ):
            out = run(self.chat_model, part.batch, use_cache=given is not None or keep, cache=given, mask=part.mask)
        for below in range(layer if self.layers else 0):  # what was recorded there was only passed on
            streams[:, 0, below] = self._plain[1 + index].entered[below][:, -1].to(streams.device, streams.dtype)
        logprobs = out.logits[:, -1].float().log_softmax(-1)
        return _BeginningPass(logprobs, getattr(out, "past_key_values", None) if keep else None, streams)

    def _opened(self, part: _Part, passed: _BeginningPass, wanted: Wanted) -> BatchScores:
        opening = None
        if wanted == "opening":
            opening = opened(self.chat_model, part.batch, passed.logprobs, passed.cache, self.openings)
        at = passed.streams
        if self.layers:
            at = at[:, 0, on_device(tuple(self.layers), at.device)]
        return BatchScores(part.kind, part.indices, passed.logprobs, opening, at)

    # --- passing over layers, and its proof ---------------------------------------------------------------------

    def _skip(self) -> None:
        """Pass over the layers below an addition, if memory allows it and it gives the same."""
        residual = self.chat_model.residual
        tokens = self.shared + sum(part.batch.ids.numel() for part in self.parts)
        size = next(self.chat_model.model.parameters()).element_size()
        if residual.n_layers < 2 or tokens * residual.n_layers * residual.d_model * size > MOST_KEPT:
            return
        if not self._keep_plain():
            return
        middle = residual.n_layers // 2
        vector = self._plain[-1].entered[middle][:, -1].float().mean(0).cpu()
        addition = Intervention("add", vector, middle)
        plain = self._probe(addition)
        self.skips = True
        if not self._same(plain, self._probe(addition)):
            self.skips, self._plain = False, []

    @torch.inference_mode()
    def _keep_plain(self) -> bool:
        """One plain pass over everything. False where blocks pass on more than the stream."""
        residual = self.chat_model.residual
        longer = max(map(len, self.openings), default=1) > 1
        first = PlainPass()
        if self.beginning:
            with watching(residual, first):
                first.cache = run_beginning(self.beginning, self.chat_model)
        kept = [first]
        for part in self.parts:
            one = PlainPass()
            with watching(residual, one):
                cache = cache_for(first.cache, len(part.indices))
                out = run(self.chat_model, part.batch, use_cache=longer or cache is not None, cache=cache)
            if longer:
                one.cache = out.past_key_values
                length = self.shared + part.batch.ids.shape[1]
                if not holds(one.cache, residual.n_layers, length):
                    return False
            kept.append(one)
        if not all(k.can_be_put_back(residual.n_layers) for k in kept[1:]):
            return False
        self._plain = kept
        return True

    def _unchanged_below(self, intervention: Intervention) -> int:
        if not self.skips or intervention.kind != "add":
            return 0
        return min(intervention.acts_at(self.chat_model.residual.n_layers))

    @torch.inference_mode()
    def _probe(self, intervention: Intervention) -> dict[tuple[str, int], Tensor]:
        """Next-token log-probabilities of each class's most padded batch, by prompt."""
        worst: dict[str, tuple[int, int]] = {}
        for index, part in enumerate(self.parts):
            lengths = [len(self.prompts[part.kind][i]) for i in part.indices]
            spread = max(lengths) - min(lengths)
            worst[part.kind] = max(worst.get(part.kind, (-1, 0)), (spread, index))
        found: dict[tuple[str, int], Tensor] = {}
        layer = self._unchanged_below(intervention)
        with intervene(self.chat_model.residual, intervention):
            beginning = self._begin(layer)
            for _spread, index in worst.values():
                part = self.parts[index]
                ran = self._run_part(index, part, beginning, layer, "next")
                found |= {(part.kind, i): row for i, row in zip(part.indices, ran.logprobs)}
        return found

    def _same(self, plain: dict[tuple[str, int], Tensor], other: dict[tuple[str, int], Tensor]) -> bool:
        worst = furthest(torch.stack(list(plain.values())), torch.stack([other[at] for at in plain]))
        if not is_rounding(self.chat_model, worst):
            return False
        self.deviation = max(self.deviation, worst)
        return True
