"""Scoring of candidate directions written plainly from the papers' definitions, the way the published code does it.

What `selection_speed.py` compares with. Candidate by candidate: six sweeps over the prompts (refusal score of harmful
and of harmless prompts and KL of harmless ones, under ablation and under addition), prompts tokenised at each sweep, in
batches of a fixed size and in the order given, logits of every position raised to float64 before the last one is taken,
hooks at every block's input and at attention's and MLP's output that normalise the direction whenever they are called
(Arditi et al. 2024, arXiv 2406.11717, section 2.3 and appendix B; Wang et al. 2025, arXiv 2505.17306).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from refusalctl.model.chat import render

Places = list[tuple[nn.Module, Callable[..., Any], bool]]  # a module, its hook, and whether that goes before it


class Reference(NamedTuple):
    """A model whose blocks have `self_attn` and `mlp` (Llama, Qwen, ...), and the tokens that open a refusal."""

    model: Any
    tokenizer: Any
    system: str | None
    blocks: Sequence[nn.Module]
    refusal_tokens: list[int]
    batch_size: int = 32

    def logits(self, texts: Sequence[str], places: Places) -> Iterator[Tensor]:
        """Last-position logits, float64, batch by batch, from logits of every position."""
        for start in range(0, len(texts), self.batch_size):
            rendered = [render(self.tokenizer, text, self.system) for text in texts[start : start + self.batch_size]]
            batch = self.tokenizer(
                rendered, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt"
            )
            with on_device(places):
                batch = batch.to(self.model.device)
                out = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            yield out.logits.to(torch.float64)[:, -1]

    def refusal_scores(self, texts: Sequence[str], places: Places) -> Tensor:
        """log p - log(1 - p) for the refusal tokens' probability p, per prompt."""
        p = torch.cat([one.softmax(-1)[:, self.refusal_tokens].sum(-1) for one in self.logits(texts, places)])
        scores: Tensor = torch.log(p) - torch.log(1 - p)
        return scores

    def probabilities(self, texts: Sequence[str], places: Places) -> Tensor:
        return torch.cat([one.softmax(-1) for one in self.logits(texts, places)])

    @torch.inference_mode()
    def score(
        self, vector: Tensor, layer: int, harmful: Sequence[str], harmless: Sequence[str], baseline: Tensor
    ) -> dict[str, float]:
        """All six sweeps of one candidate; the choice needs bypass, induce and KL. `baseline`: probabilities."""
        vector = vector.to(self.model.device)
        ablation, addition = self.ablation(vector), self.addition(vector, layer)
        found = {
            "kl": _kl(baseline, self.probabilities(harmless, ablation)),
            "kl_added": _kl(baseline, self.probabilities(harmless, addition)),
            "bypass": self.refusal_scores(harmful, ablation),
            "harmless_ablated": self.refusal_scores(harmless, ablation),
            "induce": self.refusal_scores(harmless, addition),
            "harmful_added": self.refusal_scores(harmful, addition),
        }
        return {name: float(values.mean()) for name, values in found.items()}

    def ablation(self, vector: Tensor) -> Places:
        def without(x: Any) -> Any:
            unit = vector / (vector.norm(dim=-1, keepdim=True) + 1e-8)
            unit = unit.to(x)
            return x - (x @ unit).unsqueeze(-1) * unit

        def before(_m: nn.Module, args: tuple[Any, ...]) -> Any:
            return (without(args[0]), *args[1:])

        def after(_m: nn.Module, _args: Any, output: Any) -> Any:
            return (without(output[0]), *output[1:]) if isinstance(output, tuple) else without(output)

        places: Places = []
        for block in self.blocks:
            places += [(block, before, True), (block.self_attn, after, False), (block.mlp, after, False)]  # type: ignore[list-item]
        return places

    def addition(self, vector: Tensor, layer: int) -> Places:
        def before(_m: nn.Module, args: tuple[Any, ...]) -> Any:
            return (args[0] + vector.to(args[0]), *args[1:])

        return [(self.blocks[layer], before, True)]


@contextmanager
def on_device(places: Places) -> Iterator[None]:
    handles = [m.register_forward_pre_hook(h) if first else m.register_forward_hook(h) for m, h, first in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kl(before: Tensor, after: Tensor) -> Tensor:
    """KL(before || after) per prompt, nats; the published code's epsilon is left out, it matters for no score."""
    return (before * (before.clamp_min(1e-300).log() - after.clamp_min(1e-300).log())).sum(-1)
