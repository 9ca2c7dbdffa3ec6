"""The same prompts run again and again, each time under another intervention: what does not change is computed once.

- The beginning that all prompts share (the chat template's) runs as one row, once per intervention; its key-value cache
  is kept and expanded over the batches.
- An addition at layer l changes nothing below l: the stream that enters l is kept from one plain pass, and the blocks
  below are passed over.
- On a GPU the passes of an ablation are recorded once and repeated with every other direction in its place.

All are exact up to rounding where every layer keeps every position and blocks pass on nothing but the stream. That is
asked of the configuration and of the cache, and then proved on the prompts at hand without the savings; where the proof
fails the plain path is taken.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from refusalctl.json_types import JsonObject
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.finite import is_broken, not_finite
from refusalctl.model.forward import located, opened, run
from refusalctl.model.hooks import Checks, Intervention, intervene, on_device, record
from refusalctl.model.savings.beginnings import Beginning, holds, joined, with_layers
from refusalctl.model.savings.cuda_graphs import UNRECORDABLE, CapturedPass, can_record, causal_mask, repeated
from refusalctl.model.savings.parts import BatchScores, BeginningPass, Part, Wanted, planned
from refusalctl.model.savings.shared_beginning import (
    BegunCaches,
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
PATIENCE = 5  # additions run whole before more are believed in, where nobody knows how many there will be

T = TypeVar("T")


class Sweeps:
    """Prompts by class, with the openings that their scores ask for and the layers whose streams are wanted.

    `additions` is how many are to come (None: many), at most where they are not `sure`. On a processor the classes in
    `steps` run in about so many batches. `fast` False computes everything every time.

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
        sure: bool = True,
        steps: Mapping[str, int] | None = None,
        fast: bool = True,
    ) -> None:
        self.chat_model, self.openings, self.batch_size = chat_model, openings, batch_size
        self.layers = list(layers)
        self.prompts = {kind: list(rows) for kind, rows in prompts.items()}
        self.fast, self.deviation = fast, 0.0
        self.many, self.sure, self.steps = additions is None or additions >= FEW, sure, dict(steps or {})
        self.beginning, self._is_proved = Beginning(), False
        self._begun = BegunCaches(chat_model, self.beginning)
        self._added = 0
        self.skips = False
        self._plain: list[PlainPass] = []
        self._repeated: dict[frozenset[str], CapturedPass[list[BeginningPass]] | None] = {}
        self.parts: list[Part] = []
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

    def narrow(self, kept: Mapping[str, Sequence[int]]) -> None:
        """Go on with these prompts of each class alone: what was proved of all holds for them."""
        self.prompts = {kind: [self.prompts[kind][i] for i in indices] for kind, indices in kept.items()}
        self._fit(self._prepare)

    @torch.inference_mode()
    def run(
        self,
        intervention: Intervention,
        wanted: Mapping[str, Wanted],
        checks: Checks | None = None,
        *,
        done: Collection[int] = (),
        until: Callable[[BatchScores], bool] | None = None,
    ) -> list[BatchScores]:
        """Every batch of the classes in `wanted` under one intervention on all token positions.

        What its hooks saw is added to `checks`, which the caller verifies before it keeps anything. With `until`, which
        is asked after each batch, those behind the first that it is content with are left out, and so are prompts that
        are `done`, if all of their batch are.
        """
        assert intervention.positions is None

        def swept() -> list[BatchScores]:
            self._count(intervention)
            parts = [(i, part) for i, part in enumerate(self.parts) if part.kind in wanted]
            parts = [(i, part) for i, part in parts if not all(at in done for at in part.indices)]
            # what is recorded
            whole = intervention.kind == "ablate" and intervention.strength == 1.0 and until is None and not done
            again = self._repeated.get(frozenset(wanted)) if whole else None
            if again is None:
                found, seen = self._once(intervention, parts, wanted, until)
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
        if not found:
            return
        broken = [is_broken(ran.logprobs) for ran in found]
        broken += [torch.isnan(ran.opening).any() for ran in found if ran.opening is not None]
        if bool(torch.stack([each.to(self.chat_model.device) for each in broken]).any()):
            rows = next(iter(self.prompts.values()))[: self._size()]
            with located(self.chat_model, rows):
                raise not_finite(self.chat_model.model, "scoring prompts", "logits")

    def _count(self, intervention: Intervention) -> None:
        """Where nobody knew how many additions there would be, they are many as soon as they were some."""
        self._added += intervention.kind == "add"
        if self._added == PATIENCE and self.fast and self.many and not (self.sure or self.skips):
            self._skip()

    def _once(
        self,
        intervention: Intervention,
        parts: Sequence[tuple[int, Part]],
        wanted: Mapping[str, Wanted],
        until: Callable[[BatchScores], bool] | None = None,
    ) -> tuple[list[BatchScores], Checks]:
        layer, found = self._unchanged_below(intervention), []
        if not parts:
            return [], Checks()
        with intervene(self.chat_model.residual, intervention) as seen:
            beginning = self._begin(intervention, layer)
            for i, part in parts:
                found.append(self._run_part(i, part, beginning, layer, wanted[part.kind]))
                if until is not None and until(found[-1]):
                    break
        return found, seen

    # --- passes that a GPU repeats -----------------------------------------------------------------------------

    def _record(
        self, intervention: Intervention, parts: Sequence[tuple[int, Part]], plain: Sequence[BatchScores]
    ) -> CapturedPass[list[BeginningPass]] | None:
        """The passes of an ablation, if they can be recorded and give what `plain` holds."""
        if not all(part.mask is not None for _, part in parts):
            return None
        longer = max(map(len, self.openings), default=1) > 1

        def passes() -> list[BeginningPass]:
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
        parts: Sequence[tuple[int, Part]],
        passed: Sequence[BeginningPass],
        wanted: Mapping[str, Wanted],
        seen: Checks,
    ) -> list[BatchScores]:
        """Openings behind prompts that were repeated; the recorded tensors are left as they are."""
        own = [
            BeginningPass(
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
        self.skips, self._plain, self._repeated = False, [], {}
        if self.fast and not self._is_proved:
            self.beginning = shared_beginning(self.chat_model, [row for rows in self.prompts.values() for row in rows])
            self.deviation, self._is_proved = max(self.deviation, self.beginning.deviation), True
        self._begun = BegunCaches(self.chat_model, self.beginning)
        self.parts = planned(self.chat_model, self.beginning, self.prompts, self._size(), self.steps)
        if self.fast and self.many:
            self._make_masks()
            if self.sure:
                self._skip()
        return True

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

    def _begin(self, intervention: Intervention, layer: int) -> KeyValueCache | None:
        """The shared beginning's cache under an intervention whose hooks are on, complete in all layers."""
        if not self.beginning or not self.fast:
            return None
        if not layer:
            return self._begun.under(intervention)
        with entering(self.chat_model.residual, layer, self._plain[0]):
            cache = run_beginning(self.beginning, self.chat_model)
        return joined(self._plain[0].cache, cache, layer)

    def _run_part(
        self, index: int, part: Part, beginning: KeyValueCache | None, layer: int, wanted: Wanted
    ) -> BatchScores:
        longer = wanted == "opening" and max(map(len, self.openings), default=1) > 1
        passed = self._pass(index, part, beginning, layer, keep=longer)
        if layer and longer:  # blocks that were passed over wrote nothing
            passed = passed._replace(cache=joined(self._plain[1 + index].cache, passed.cache, layer))
        return self._opened(part, passed, wanted)

    def _pass(
        self, index: int, part: Part, beginning: KeyValueCache | None, layer: int, *, keep: bool
    ) -> BeginningPass:
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
        return BeginningPass(logprobs, getattr(out, "past_key_values", None) if keep else None, streams)

    def _opened(self, part: Part, passed: BeginningPass, wanted: Wanted) -> BatchScores:
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
            beginning = self._begin(intervention, layer)
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
