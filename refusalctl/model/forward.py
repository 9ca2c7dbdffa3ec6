"""Forward passes over batches of prompts: recorded activations, last-position logits, opening probabilities."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalctl.model.batching import plan_batches
from refusalctl.model.chat import Batch
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.finite import NotFinite, not_finite, require_finite
from refusalctl.model.hooks import Checks, Intervention, intervene, on_device, record
from refusalctl.model.transformers_types import KeyValueCache, LanguageModel, ModelOutput


def last_only(model: object, n: int = 1) -> dict[str, int]:
    """The option that spares the output layer all positions but the last `n`, where a model has it."""
    forward = inspect.signature(type(model).forward)  # type: ignore[attr-defined]
    return {"logits_to_keep": n} if "logits_to_keep" in forward.parameters else {}


def run(
    chat_model: ChatModel,
    batch: Batch,
    *,
    use_cache: bool,
    cache: KeyValueCache | None = None,
    last: int = 1,
    mask: Tensor | None = None,
) -> ModelOutput:
    """One forward pass with the logits of the `last` positions; `cache` holds what the batch's mask begins with.

    `mask`: what attention adds to its scores, instead of what the model would make of the batch's mask.
    """
    model = chat_model.model
    given = {} if cache is None else {"past_key_values": cache}
    with _whole_head(model):
        return model(
            input_ids=batch.ids,
            attention_mask=batch.mask if mask is None else mask,
            position_ids=batch.position_ids,
            use_cache=use_cache,
            **last_only(model, last),
            **given,
        )


@contextmanager
def _whole_head(model: LanguageModel) -> Iterator[None]:
    """Hand the output layer its rows in one piece: for a slice of each prompt, torch reads its weights once per row."""
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda _m, args: (args[0].contiguous(), *args[1:]) if args else None)
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def activations(
    chat_model: ChatModel,
    encoded: Sequence[Sequence[int]],
    positions: list[int],
    batch_size: int,
    done: frozenset[int] = frozenset(),
) -> Iterator[tuple[list[int], Float[Tensor, "batch n_pos n_layers d_model"]]]:
    """`resid_pre` (float32, CPU) at `positions` for every prompt, batch by batch with the prompts' indices. Batches
    whose prompts are all `done` are left out; the others are those of an undisturbed run.

    Raises `NotFinite` for a NaN or an infinite value: a mean over it would poison every candidate.
    """
    residual = chat_model.residual

    def recorded(indices: list[int]) -> PendingCopy:
        batch = chat_model.chat.batch([encoded[i] for i in indices], chat_model.device)
        shape = (len(indices), len(positions), residual.n_layers, residual.d_model)
        out = torch.full(shape, float("nan"), device=chat_model.device)
        with record(residual, positions, out, stop=True):
            run(chat_model, batch, use_cache=False)
        return PendingCopy(out)

    before: tuple[list[int], PendingCopy] | None = None
    plan = [each for each in plan_batches([len(e) for e in encoded], batch_size) if not done.issuperset(each)]
    for batch in chat_model.batch_limit.batches(plan, recorded):
        if before is not None:  # handed over while the device runs the next batch
            yield before[0], before[1].arrived(chat_model.model)
        before = batch
    if before is not None:
        yield before[0], before[1].arrived(chat_model.model)


class PendingCopy:
    """A tensor on its way to the CPU, which nobody waits for until it is asked for."""

    def __init__(self, found: Tensor) -> None:
        self.found, self.finite = _on_cpu(found), _on_cpu(torch.isfinite(found).all())
        self.sent = torch.cuda.Event() if found.is_cuda else None  # type: ignore[no-untyped-call]
        if self.sent is not None:
            self.sent.record(torch.cuda.current_stream(found.device))

    def arrived(self, model: LanguageModel) -> Tensor:
        if self.sent is not None:
            self.sent.synchronize()
        if not self.finite:
            broken = ~torch.isfinite(self.found).flatten(0, 1).all(-1).all(0)
            raise not_finite(model, "recording activations", "residual stream", int(broken.int().argmax()))
        return self.found


@torch.inference_mode()
def broken_layer(chat_model: ChatModel, rows: Sequence[Sequence[int]]) -> int | None:
    """The first layer whose `resid_pre` behind these prompts is not finite, None where all are."""
    residual = chat_model.residual
    batch = chat_model.chat.batch(rows, chat_model.device)
    out = torch.zeros((len(rows), 1, residual.n_layers, residual.d_model), device=chat_model.device)
    with record(residual, [-1], out, stop=True):
        run(chat_model, batch, use_cache=False)
    broken = (~torch.isfinite(out)).flatten(0, 1).any(-1).any(0)
    return int(broken.int().argmax()) if bool(broken.any()) else None


@contextmanager
def located(chat_model: ChatModel, rows: Sequence[Sequence[int]]) -> Iterator[None]:
    """What is not finite is named with the first layer where it is seen behind these prompts."""
    try:
        yield
    except NotFinite as error:
        layer = broken_layer(chat_model, rows) if error.layer is None else None
        if layer is None:
            raise
        told = f"{error.message} (the residual stream from layer {layer} on)"
        raise NotFinite(told, hint=error.hint, layer=layer) from error


def _on_cpu(found: Tensor) -> Tensor:
    """From a GPU into memory that it writes to by itself: the numbers are there when the device gets to it."""
    if not found.is_cuda:
        return found.cpu()
    return torch.empty(found.shape, dtype=found.dtype, pin_memory=True).copy_(found, non_blocking=True)


@torch.inference_mode()
def last_logprobs(
    chat_model: ChatModel,
    encoded: Sequence[Sequence[int]],
    intervention: Intervention,
    batch_size: int,
    checks: Checks | None = None,
) -> Float[Tensor, "n_prompts d_vocab"]:
    """Log-probabilities (float32, CPU) of the next token after each prompt, under `intervention`.

    What its hooks saw is added to `checks`.
    """
    rows: list[Tensor | None] = [None] * len(encoded)

    def next_tokens(indices: list[int]) -> Tensor:
        batch = chat_model.chat.batch([encoded[i] for i in indices], chat_model.device)
        with _under(chat_model, intervention, batch, checks):
            logits = run(chat_model, batch, use_cache=False).logits[:, -1]
        with located(chat_model, [encoded[i] for i in indices]):
            require_finite(logits, chat_model.model, "scoring prompts")
        found: Tensor = logits.float().log_softmax(-1).cpu()
        return found

    plan = plan_batches([len(e) for e in encoded], batch_size)
    for indices, found in chat_model.batch_limit.batches(plan, next_tokens):
        for i, row in zip(indices, found):
            rows[i] = row
    return torch.stack([row for row in rows if row is not None])


@contextmanager
def _under(chat_model: ChatModel, intervention: Intervention, batch: Batch, checks: Checks | None) -> Iterator[None]:
    """An intervention over one batch of prompts and what continues them."""
    with intervene(chat_model.residual, intervention, batch.ids.shape[1]) as seen:
        yield
    if checks is not None:
        checks.merge(seen)


@torch.inference_mode()
def opening_logprob(
    chat_model: ChatModel,
    encoded: Sequence[Sequence[int]],
    openings: Sequence[Sequence[int]],
    intervention: Intervention,
    batch_size: int,
    checks: Checks | None = None,
) -> Float[Tensor, " n_prompts"]:
    """log P(the answer opens with one of `openings`) after each prompt, under `intervention` (float64, CPU).

    Openings are token sequences of which none begins another, so their probabilities add up. The prompt is
    run once; every opening continues from its key-value cache. What the hooks saw is added to `checks`.
    """
    result = torch.full((len(encoded),), float("nan"), dtype=torch.float64)

    def opened_by(indices: list[int]) -> Tensor:
        batch = chat_model.chat.batch([encoded[i] for i in indices], chat_model.device)
        with located(chat_model, [encoded[i] for i in indices]), _under(chat_model, intervention, batch, checks):
            return _opening_batch(chat_model, batch, openings)

    plan = plan_batches([len(e) for e in encoded], batch_size)
    for indices, found in chat_model.batch_limit.batches(plan, opened_by):
        result[indices] = found.cpu()
    return result


def _opening_batch(chat_model: ChatModel, batch: Batch, openings: Sequence[Sequence[int]]) -> Float[Tensor, " batch"]:
    prompt = run(chat_model, batch, use_cache=max(map(len, openings)) > 1)
    require_finite(prompt.logits[:, -1], chat_model.model, "scoring openings")
    first = prompt.logits[:, -1].float().log_softmax(-1)
    return opened(chat_model, batch, first, getattr(prompt, "past_key_values", None), openings)


def opened(
    chat_model: ChatModel,
    batch: Batch,
    first: Float[Tensor, "batch d_vocab"],
    cache: KeyValueCache | None,
    openings: Sequence[Sequence[int]],
) -> Float[Tensor, " batch"]:
    """log P(the answer opens with one of `openings`), on the device, from the log-probabilities behind each prompt.

    `cache` holds the prompts and is used up; where all openings are single tokens it may be None.
    """
    return each_opened(chat_model, batch, first, cache, openings).logsumexp(-1)


def each_opened(
    chat_model: ChatModel,
    batch: Batch,
    first: Float[Tensor, "batch d_vocab"],
    cache: KeyValueCache | None,
    openings: Sequence[Sequence[int]],
) -> Float[Tensor, "batch n_openings"]:
    """The same for each opening, float64, on the device."""
    total = first[:, on_device(tuple(o[0] for o in openings), first.device)].double()
    longer = [j for j, o in enumerate(openings) if len(o) > 1]
    if longer:
        total[:, longer] += _continued(chat_model, batch, cache, [openings[j] for j in longer])
    return total


def _continued(
    chat_model: ChatModel, batch: Batch, cache: KeyValueCache | None, openings: Sequence[Sequence[int]]
) -> Float[Tensor, "batch n_openings"]:
    """Log-probability of every opening's tokens behind its first, float64. What openings begin with alike runs once."""
    n, device = batch.mask.shape[0], batch.ids.device
    fed = _chains([tuple(o[:-1]) for o in openings])
    longest = max(map(len, fed))
    ids = torch.tensor([list(c) + [chat_model.chat.pad_id] * (longest - len(c)) for c in fed], device=device)
    real = torch.tensor([[1] * len(c) + [0] * (longest - len(c)) for c in fed], device=device)
    logits = _later(chat_model, batch, cache, ids, real).float().view(n, len(fed), longest, -1)
    normaliser = logits.logsumexp(-1)
    asked = [
        (j, next(i for i, c in enumerate(fed) if c[: len(o) - 1] == tuple(o[:-1])), at, token)
        for j, o in enumerate(openings)
        for at, token in enumerate(o[1:])
    ]
    opening, chain, at, token = (on_device(tuple(column), logits.device) for column in zip(*asked))
    gained = (logits[:, chain, at, token] - normaliser[:, chain, at]).double()
    found = torch.zeros((n, len(openings)), dtype=torch.float64, device=logits.device)
    return found.index_add_(1, opening, gained)


def _chains(tails: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Those that begin no other one, each once, in order."""
    kept = [t for t in tails if not any(len(other) > len(t) and other[: len(t)] == t for other in tails)]
    return list(dict.fromkeys(kept))


def _later(
    chat_model: ChatModel,
    batch: Batch,
    cache: KeyValueCache | None,
    ids: Int[Tensor, "k seq"],
    real: Int[Tensor, "k seq"],
) -> Float[Tensor, "rows seq d_vocab"]:
    """Logits after each of k rows of tokens behind every prompt, rows = prompts x k."""
    n, (k, length) = batch.mask.shape[0], ids.shape
    fed, mask = ids.repeat(n, 1), torch.cat([batch.mask.repeat_interleave(k, 0), real.repeat(n, 1)], dim=1)
    positions = batch.position_ids[:, -1:].repeat_interleave(k, 0) + torch.arange(1, length + 1, device=ids.device)
    layers = getattr(cache, "layers", [None])
    if cache is not None and all(hasattr(layer, "batch_repeat_interleave") for layer in layers):
        cache.batch_repeat_interleave(k)
        out = chat_model.model(
            input_ids=fed, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
    else:  # recurrent layers keep one state, which several tokens at once do not continue
        out = chat_model.model(
            input_ids=torch.cat([batch.ids.repeat_interleave(k, 0), fed], dim=1),
            attention_mask=mask,
            position_ids=torch.cat([batch.position_ids.repeat_interleave(k, 0), positions], dim=1),
            use_cache=False,
            **last_only(chat_model.model, length),
        )
    logits: Tensor = out.logits[:, -length:]
    return logits
