"""What ablating or adding any direction does to first order, for all directions from the same few backward passes.

With every write w to the residual stream (the embedding among them) and the gradient g of a quantity at that write,
ablating a unit vector r changes the quantity by -sum (r . w)(r . g) over writes and tokens: its derivative along the
path that takes r's component out of every write (attribution patching, Nanda 2023; Syed et al. 2023, arXiv 2310.10348).
Adding r at a layer's input changes it by sum r . g over tokens, g the gradient at that input.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from refusalctl.model.batching import plan_batches
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.finite import require_finite
from refusalctl.model.forward import each_opened, run
from refusalctl.model.residual import Residual, block_input, hidden_of, unit
from refusalctl.model.transformers_types import Arguments, Keywords

TOP = 4  # next tokens whose log-probabilities stand for the distribution


class Directions(NamedTuple):
    """Candidate vectors [n_candidates, d_model], and the layer at whose input each would be added."""

    vectors: Float[Tensor, "n_candidates d_model"]
    layers: Sequence[int]


@dataclass
class _Graph:
    """The stream's parts in a forward pass that keeps its graph: writes, and what enters each block.

    `along` holds every write's components along the unit directions, taken when it is written: Falcon goes on to add
    one write into another, in place.
    """

    unit: Float[Tensor, "n_candidates d_model"]
    writes: list[Tensor] = field(default_factory=list)
    along: list[Tensor] = field(default_factory=list)
    entering: list[Tensor] = field(default_factory=list)

    def keep(self, write: Tensor) -> None:
        self.writes.append(write)
        self.along.append(self.components(write.detach()))

    def components(self, x: Tensor) -> Float[Tensor, "batch seq n_candidates"]:
        return x.float() @ self.unit.to(x.device).T


class Linear(NamedTuple):
    """A refusal score (log-odds) per prompt, and how every direction changes it to first order; float32, CPU."""

    score: Float[Tensor, " n_prompts"]
    change: Float[Tensor, "n_prompts n_candidates"]


def refusal_scores(
    chat_model: ChatModel,
    encoded: Sequence[Sequence[int]],
    openings: Sequence[Sequence[int]],
    directions: Directions,
    batch_size: int,
    *,
    added: bool,
) -> Linear:
    """The score of opening with a refusal under ablation or addition. One backward pass per batch.

    Where openings are longer than a token, each prompt's likeliest one stands for all.
    """
    chosen = _targets(chat_model, encoded, openings, batch_size)
    rows = [[*row, *(tokens[0] for tokens in target[:-1])] for row, target in zip(encoded, chosen)]
    found = Linear(torch.empty(len(rows)), torch.empty(len(rows), len(directions.layers)))

    def scored(indices: list[int]) -> Linear:
        with _passed(chat_model, [rows[i] for i in indices], directions, max(map(len, chosen))) as (logits, graph):
            require_finite(logits[:, -1], chat_model.model, "estimating scores")
            score = _log_odds(logits, [chosen[i] for i in indices])
            return Linear(score.detach().cpu(), _changes(graph, score.sum(), directions, added=added))

    for indices, part in chat_model.batch_limit.batches(_of_one_length(rows, batch_size), scored):
        found.score[indices], found.change[indices] = part
    return found


@torch.inference_mode()
def _targets(
    chat_model: ChatModel, encoded: Sequence[Sequence[int]], openings: Sequence[Sequence[int]], batch_size: int
) -> list[list[list[int]]]:
    """For each prompt the tokens that count as refusal at each position of its answer."""
    if max(map(len, openings)) == 1:
        return [[[o[0] for o in openings]]] * len(encoded)
    if len(openings) == 1:  # there is none to choose from
        return [[[token] for token in openings[0]]] * len(encoded)
    found: list[list[list[int]]] = [[] for _ in encoded]

    def likeliest(indices: list[int]) -> list[int]:
        batch = chat_model.chat.batch([encoded[i] for i in indices], chat_model.device)
        out = run(chat_model, batch, use_cache=True)
        require_finite(out.logits[:, -1], chat_model.model, "estimating scores")
        first = out.logits[:, -1].float().log_softmax(-1)
        each = each_opened(chat_model, batch, first, getattr(out, "past_key_values", None), openings)
        best: list[int] = each.argmax(-1).tolist()
        return best

    plan = plan_batches([len(row) for row in encoded], batch_size)
    for indices, best in chat_model.batch_limit.batches(plan, likeliest):
        for i, at in zip(indices, best):
            found[i] = [[token] for token in openings[at]]
    return found


def _log_odds(
    logits: Float[Tensor, "batch seq d_vocab"], targets: Sequence[Sequence[Sequence[int]]]
) -> Float[Tensor, " batch"]:
    """log p - log(1 - p) of writing the targets, from logits whose last position predicts each row's last target.

    1 - p is summed from where the answer first departs: as a difference it would be 0 for a sure refusal, and flat.
    """
    scores = []
    for row, target in zip(logits.float(), targets):
        written, departs = torch.zeros((), device=row.device), []
        for z, tokens in zip(row[-len(target) :], target):
            is_target = torch.zeros_like(z, dtype=torch.bool)
            is_target[list(tokens)] = True
            everything = z.logsumexp(-1)
            departs.append(written + z.masked_fill(is_target, -torch.inf).logsumexp(-1) - everything)
            written = written + z[is_target].logsumexp(-1) - everything
        scores.append(written - torch.stack(departs).logsumexp(-1))
    return torch.stack(scores)


def kl_estimates(
    chat_model: ChatModel, encoded: Sequence[Sequence[int]], directions: Directions, batch_size: int
) -> Float[Tensor, "n_prompts n_candidates"]:
    """KL(baseline || ablated) to second order, nats: half the baseline's mean square of first-order log-probability
    changes, over its `TOP` likeliest tokens, weights scaled to 1."""
    found = torch.zeros(len(encoded), len(directions.layers))

    def estimated(indices: list[int]) -> Tensor:
        with _passed(chat_model, [encoded[i] for i in indices], directions, 1) as (logits, graph):
            require_finite(logits[:, -1], chat_model.model, "estimating scores")
            logprobs = logits[:, -1].float().log_softmax(-1)
            top = logprobs.detach().topk(TOP)
            weights = top.values.softmax(-1)
            total = torch.zeros(len(indices), len(directions.layers))
            for k in range(TOP):
                picked = logprobs.gather(-1, top.indices[:, k : k + 1]).sum()
                change = _changes(graph, picked, directions, added=False)
                total += 0.5 * weights[:, k : k + 1].cpu() * change**2
            return total

    for indices, part in chat_model.batch_limit.batches(_of_one_length(encoded, batch_size), estimated):
        found[indices] = part
    return found


@contextmanager
def _passed(
    chat_model: ChatModel, rows: Sequence[Sequence[int]], directions: Directions, last: int
) -> Iterator[tuple[Tensor, _Graph]]:
    """Logits of the `last` positions [batch, last, d_vocab] of rows of one length, and the graph behind them."""
    graph = _Graph(torch.stack([unit(vector) for vector in directions.vectors]))
    batch = chat_model.chat.batch(rows, chat_model.device)
    with torch.enable_grad(), _kept(chat_model.residual, graph):
        yield run(chat_model, batch, use_cache=False, last=last).logits[:, -last:], graph


def _of_one_length(rows: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Batches without padding: the gradient through a padded row's empty attention is NaN, and it spreads."""
    alike: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        alike.setdefault(len(row), []).append(index)
    for indices in alike.values():
        yield from (indices[i : i + batch_size] for i in range(0, len(indices), batch_size))


def _changes(
    graph: _Graph, quantity: Tensor, directions: Directions, *, added: bool
) -> Float[Tensor, "batch n_candidates"]:
    """Rows are independent, so the gradient of their sum holds each row's own."""
    if added:
        into = sorted(set(directions.layers))
        slopes = torch.autograd.grad(quantity, [graph.entering[layer] for layer in into], retain_graph=True)
        summed = {layer: slope.float().sum(1).cpu() for layer, slope in zip(into, slopes)}
        return torch.stack([summed[at] @ v.cpu() for at, v in zip(directions.layers, directions.vectors)], dim=1)
    slopes = torch.autograd.grad(quantity, graph.writes, retain_graph=True)
    return -sum((along * graph.components(slope)).sum(1).cpu() for along, slope in zip(graph.along, slopes))  # type: ignore[return-value]


@contextmanager
def _kept(residual: Residual, graph: _Graph) -> Iterator[None]:
    """Let the graph begin where the stream does, and keep its parts."""

    def first(_m: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        stream = block_input(args, kwargs).detach().requires_grad_()
        graph.keep(stream)
        graph.entering.append(stream)
        return ((stream, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": stream})

    def enters(_m: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        graph.entering.append(block_input(args, kwargs))

    def wrote(_m: nn.Module, _args: Arguments, output: object) -> None:
        graph.keep(hidden_of(output))

    handles: list[RemovableHandle] = [residual.blocks[0].register_forward_pre_hook(first, with_kwargs=True)]
    handles += [block.register_forward_pre_hook(enters, with_kwargs=True) for block in residual.blocks[1:]]
    handles += [module.register_forward_hook(wrote) for writes in residual.writes for module in writes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
