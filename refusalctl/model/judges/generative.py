"""Judges that are language models: one prompt per completion in, a short verdict in text out.

Rows go in batches, longest first, decoded greedily. What all prompts begin with (a judge's instructions are longer
than most completions) is run once and its key-value cache is shared by every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from refusalctl.model.judges.encoding import EncodedItem, Render, encode
from refusalctl.model.judges.protocol import CUT, Declaration, Item, Verdict, unparsed
from refusalctl.model.judges.weights import JudgeModel, Settings, context, digest, foresee, load
from refusalctl.model.savings.beginnings import (
    MIN_SHARED,
    common_beginning,
    expanded,
    keeps_all,
    run_ids,
    with_layers,
)

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import KeyValueCache, LanguageModel, Tokenizer


@dataclass(frozen=True)
class Format:
    """How a judge is asked and understood.

    `parse` sees generated text alone. `whole`: a verdict counts only when the model ended it itself.
    """

    render: Render
    parse: Callable[[str], Verdict]
    max_new_tokens: int
    whole: bool = True
    kind: str = "generative"


class Loaded(NamedTuple):
    model: LanguageModel
    tokenizer: Tokenizer


@dataclass
class GenerativeJudge:
    """A judge behind `protocol.Judge`; weights are loaded when the first row is judged."""

    declaration: Declaration
    format: Format
    found: JudgeModel
    settings: Settings = field(default_factory=Settings)
    share_prefix: bool = True
    _loaded: Loaded | None = None

    @cached_property
    def digest(self) -> str:
        from refusalctl.model.load import pick_dtype

        dtype = pick_dtype(self.settings.dtype, self.settings.device)
        return digest(self.declaration, self.found.name, self.found.revision, dtype)

    def release(self) -> None:
        from refusalctl.model.batching import free

        self._loaded = None
        free()

    def foresee(self) -> None:
        """Raise at once what loading its weights would raise, as far as that shows without reading them."""
        foresee(self.found, self.settings, self.format.kind)

    @property
    def loaded(self) -> Loaded:
        if self._loaded is None:
            self._loaded = Loaded(*load(self.found, self.settings, self.format.kind))
        return self._loaded

    def judge_all(self, items: Sequence[Item], done: frozenset[int] = frozenset()) -> Iterator[tuple[int, Verdict]]:
        """The batch plan does not depend on `done`, so a resumed run computes the rest as an uninterrupted one."""
        from refusalctl.model.batching import BatchLimit, plan_batches

        encoded = [self._encode(item) for item in items]
        for i, row in enumerate(encoded):
            if row.failed and i not in done:
                yield i, unparsed(row.failed)
        asked = [i for i, row in enumerate(encoded) if not row.failed]
        prefix = self._prefix([encoded[i].ids for i in asked])
        batches = plan_batches([len(encoded[i].ids) for i in asked], self.settings.batch_size)
        plan = ([asked[j] for j in batch] for batch in batches)
        missing = (rows for rows in plan if not done.issuperset(rows))
        for rows, answers in BatchLimit().batches(
            missing, lambda rows: self._generate([encoded[i].ids for i in rows], prefix)
        ):
            for i, answer in zip(rows, answers):
                if i not in done:
                    yield i, self._verdict(answer)._replace(input_cut=encoded[i].cut)

    def _encode(self, item: Item) -> EncodedItem:
        model, tokenizer = self.loaded
        limit = context(model, tokenizer) - self.format.max_new_tokens
        return encode(tokenizer, self.format.render, item, limit)

    def _verdict(self, answer: list[int]) -> Verdict:
        ends = self._ends()
        stop = next((i for i, token in enumerate(answer) if token in ends), None)
        if stop is None and self.format.whole:
            return unparsed(CUT)
        return self.format.parse(self.loaded.tokenizer.decode(answer[:stop], skip_special_tokens=True))

    def _ends(self) -> set[int]:
        model, tokenizer = self.loaded
        own = model.generation_config.eos_token_id
        ids = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
        return {int(i) for i in ids if i is not None}

    def _prefix(self, rows: Sequence[list[int]]) -> SharedBeginning | None:
        shared = common_beginning(rows)
        if not self.share_prefix or len(rows) < 2 or len(shared) < MIN_SHARED or not keeps_all(self.loaded.model):
            return None
        import torch

        device = self.loaded.model.get_input_embeddings().weight.device
        return SharedBeginning(shared, run_ids(self.loaded.model, torch.tensor([shared], device=device)))

    def _generate(self, rows: Sequence[list[int]], prefix: SharedBeginning | None) -> list[list[int]]:
        """Ids that the model wrote after each row, padding and end tokens included."""
        import torch
        from transformers import GenerationConfig
        from transformers.generation.logits_process import LogitsProcessorList

        from refusalctl.model.finite import AllFinite
        from refusalctl.model.savings.growing_cache import with_room

        model, tokenizer = self.loaded
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self._ends(), default=0)
        shared = len(prefix.ids) if prefix else 0
        width = max(map(len, rows))
        # padding stands between the shared beginning and the rest: positions are counted from the mask
        ids = [row[:shared] + [pad] * (width - len(row)) + row[shared:] for row in rows]
        mask = [[1] * shared + [0] * (width - len(row)) + [1] * (len(row) - shared) for row in rows]
        given = {}
        if prefix:
            begun = with_layers(prefix.cache, expanded(prefix.cache.layers, len(rows)))
            given["past_key_values"] = with_room(begun, width + self.format.max_new_tokens)
        device = model.get_input_embeddings().weight.device
        # greedy means greedy: a judge's own generation settings may sample
        settings = GenerationConfig(
            max_new_tokens=self.format.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(self._ends()) or None,
            pad_token_id=pad,
        )
        finite = AllFinite()
        with torch.inference_mode():
            out = model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=settings,
                logits_processor=LogitsProcessorList([finite]),
                **given,
            )
        finite.require(model, f"judging by {self.declaration.name}")
        written: list[list[int]] = out[:, width:].tolist()
        return written


class SharedBeginning(NamedTuple):
    """What all prompts begin with, and its key-value cache of batch size 1."""

    ids: list[int]
    cache: KeyValueCache
