"""How many positions a model was made for, read from its configuration, and whether prompts and answers fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from refusalctl.errors import ModelError

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import Config, TextConfig

# as architectures name it: learned tables (GPT-2, OPT, MPT) end there, rotary models go on and answer nonsense
_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "n_ctx", "max_seq_length")
_MORE_THAN_ANY = 10**9  # some configurations write a huge number for "no limit"
# kinds of stretched rotary embedding whose configuration already gives the stretched length
_STRETCHED_ALREADY = ("llama3", "longrope", "su", "default", "proportional")


class Positions(NamedTuple):
    """The largest number of tokens, None where the configuration names none, and where that stands."""

    most: int | None
    source: str = ""


class Longest(NamedTuple):
    """The longest prompt of some, in tokens with the chat template."""

    prompt_id: str
    tokens: int


def positions_of(config: Config) -> Positions:
    """Of a model's configuration, or of the text part of one that also sees images."""
    text = config.get_text_config()
    for name in _NAMES:
        value = getattr(text, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MORE_THAN_ANY:
            return _stretched(text, value, name)
    return Positions(None)


def _stretched(config: TextConfig, trained: int, name: str) -> Positions:
    """With the factor of a scaled rotary embedding, where the named length is the one before scaling.

    The larger of the readings that are in use: a prompt is refused only where none of them allows it.
    """
    most, source = trained, name
    for rope in _ropes(config):
        kind = str(rope.get("rope_type", rope.get("type", "default")))
        factor = rope.get("factor")
        if kind in _STRETCHED_ALREADY or not isinstance(factor, int | float) or factor <= 1:
            continue
        before = rope.get("original_max_position_embeddings") or trained
        if (scaled := int(before * factor)) > most:
            most, source = scaled, f"{name} times the factor {factor:g} of its rotary embedding ({kind})"
    return Positions(most, source)


def _ropes(config: TextConfig) -> list[dict[str, Any]]:
    """Settings of rotary embeddings: one for all layers, or one per kind of layer."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(found, dict):
        return []
    nested = [each for each in found.values() if isinstance(each, dict)]
    return nested or [found]


def check_fits(limit: Positions, longest: Longest, new_tokens: int, think_tokens: int = 0) -> None:
    """Raise `ModelError` where the longest prompt and what is written behind it are more than there is room for.

    `new_tokens`: all of that; `think_tokens`: how many of them are a thought's.
    """
    needed = longest.tokens + new_tokens
    if limit.most is None or needed <= limit.most:
        return
    # where there is room for an answer, the thought is what can be shorter
    room, spent = limit.most - longest.tokens, new_tokens - think_tokens
    less = f"or --max-new-tokens {room} or less, " if room > 0 and new_tokens > 1 else ""
    if think_tokens:
        less = f"or --max-think-tokens {room - spent} or less, " if room > spent else ""
    thought = f" ({think_tokens} of them a thought)" if think_tokens else ""
    raise ModelError(
        f"prompt {longest.prompt_id!r} has {longest.tokens} tokens with the chat template"
        f"{f' and {new_tokens} may follow{thought}: {needed}' if new_tokens else ''}, but the model has "
        f"{limit.most} positions ({limit.source})",
        hint=f"shorten the prompt or leave it out of the set, {less}or take a model with a longer context",
    )
