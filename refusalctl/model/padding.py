"""Whether rows may be padded: proved on the loaded model before it is used, and else every prompt is run alone.

Attention leaves masked positions out, but states that are carried from token to token (Mamba, RWKV, linear attention)
may take padding up, learned positions may count it, and experts with a capacity serve whoever comes first. Then what
is recorded of a prompt depends on the prompts beside it. One short prompt is run alone and, padded on the left, beside
a longer one: the stream entering every block and the logits must agree, in a plain pass and while an answer is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from refusalctl.errors import ModelError
from refusalctl.model.batching import Padding
from refusalctl.model.finite import not_finite

if TYPE_CHECKING:
    from refusalctl.model.chat_model import ChatModel
    from refusalctl.model.transformers_types import Config

# |a - b| / |a| that rounding may make between two shapes of a batch
SAME = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.06, torch.float16: 0.01}
DOUBT = 8.0  # up to so many times as much, as long as the same row twice, without padding, differs as well
NEW_TOKENS = 2  # the second is computed from what the first pass left behind
SHORT = "Name a colour"
LONG = "Please write a few friendly lines about the weather of the last week, and why it changed."


class _Seen(NamedTuple):
    """Of the last row of a batch at the short prompt's positions: streams [n_pos n_layers d_model], and the logits
    [n d_vocab] of a plain pass, of the first written token and of the second."""

    streams: Tensor
    logits: Tensor

    @property
    def finite(self) -> bool:
        return bool(torch.isfinite(self.streams).all() and torch.isfinite(self.logits).all())


def settle(model: ChatModel) -> Padding:
    """Whether rows may be padded, proved once per model; where not, every pass from now on runs one row at a time."""
    if model.batch_limit.padding is None:
        model.batch_limit.padding = prove(model)
    return model.batch_limit.padding


@torch.inference_mode()
def prove(model: ChatModel) -> Padding:
    """Run the short prompt alone and padded. What cannot be padded is run alone.

    Raises `ModelError` where the model cannot be told positions, so that no row could be run behind padding or a cache.
    """
    forward = inspect.signature(type(model.model).forward).parameters.values()
    if not any(p.name == "position_ids" or p.kind is p.VAR_KEYWORD for p in forward):
        raise ModelError(
            f"{type(model.model).__name__} takes no position ids: where its tokens stand cannot be told to it",
            hint="its own code has to accept `position_ids`; or take another model",
        )
    short, long = model.chat.encode(SHORT), model.chat.encode(LONG)
    tolerance = SAME.get(next(model.model.parameters()).dtype, SAME[torch.bfloat16])
    alone = _seen(model, [short], len(short))
    if not alone.finite:  # nothing could be proved of them
        raise not_finite(model.model, "a first pass over a plain prompt", "residual stream or the logits")
    try:
        padded = _seen(model, [long, short], len(short))
    except (TypeError, ValueError, NotImplementedError, IndexError) as error:
        reason = f"it fails on a padded row: {(str(error).splitlines() or [type(error).__name__])[0][:160]}"
        return Padding(False, None, tolerance, reason=reason)
    deviation = _furthest(alone, padded)
    if deviation <= tolerance:
        return Padding(True, deviation, tolerance)
    noise = _furthest(alone, _seen(model, [short, short], len(short)))
    if noise > 0 and deviation <= min(4 * noise, DOUBT * tolerance):
        return Padding(True, deviation, tolerance, noise, "a batch without padding differs as much: rounding")
    seen = deviation if deviation < float("inf") else None
    return Padding(False, seen, tolerance, noise, "padding changes its states")


def _seen(model: ChatModel, rows: Sequence[Sequence[int]], n: int) -> _Seen:
    from refusalctl.model.forward import run
    from refusalctl.model.hooks import record

    batch = model.chat.batch(rows, model.device)
    shape = (len(rows), n, model.residual.n_layers, model.residual.d_model)
    out = torch.full(shape, float("nan"), device=model.device)
    with record(model.residual, list(range(-n, 0)), out):
        plain = run(model, batch, use_cache=False).logits[-1:, -1]
    # the same next token in every batch, whatever is likeliest: near-ties may fall either way
    forced = [rows[-1][0]]
    written = model.model.generate(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        use_cache=True,
        eos_token_id=[],
        pad_token_id=model.chat.pad_id,
        prefix_allowed_tokens_fn=lambda _row, _ids: forced,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = [plain.float().cpu(), *(each[-1:].float().cpu() for each in written.logits)]
    return _Seen(out[-1].float().cpu(), torch.cat(logits))


def _furthest(a: _Seen, b: _Seen) -> float:
    """The largest relative difference of any stream or row of logits; infinite for what is not finite."""
    if not b.finite:
        return float("inf")

    def apart(x: Tensor, y: Tensor, least: float) -> float:
        x, y = x.double(), y.double()
        return float(((x - y).norm(dim=-1) / x.norm(dim=-1).clamp(min=least)).max())

    # where all tokens are as likely, logits are nothing but rounding: they are compared with one nat
    return max(apart(a.streams, b.streams, 1e-12), apart(_centred(a.logits), _centred(b.logits), 1.0))


def _centred(logits: Tensor) -> Tensor:
    """Without what all tokens share, which no probability depends on."""
    return logits.double() - logits.double().mean(-1, keepdim=True)


def check_pad(config: Config) -> None:
    """Take a pad token that has no embedding out of a configuration: an embedding refuses to be made with it.

    Rows are filled with a token that the model has (`chat.padding`), and it is masked anyway.
    """
    for each in {id(c): c for c in (config, config.get_text_config())}.values():
        size, pad = getattr(each, "vocab_size", None), getattr(each, "pad_token_id", None)
        if isinstance(size, int) and isinstance(pad, int) and not 0 <= pad < size:
            each.pad_token_id = None
