"""From an instruction to token ids: the tokenizer's own template, its end-of-instruction tokens, padding.

The end-of-instruction tokens are what the template writes between the instruction and the model's answer
(Arditi et al. 2024, arXiv 2406.11717, section 2.3 and appendix C.3: "post-instruction tokens"). They are
derived here by rendering several different instructions and comparing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from refusalctl.errors import ModelError
from refusalctl.model.reasoning import NONE, Asked, Thinking, thinking_of

FIXED_DATE = "26 Jul 2024"  # what Llama 3's templates take where they are given no date
_FIXED_NOW = "{%- macro strftime_now(format) -%}" + FIXED_DATE + "{%- endmacro -%}"
# endings that a tokenizer may merge with what follows them
_PROBES = (
    "Name a colour",
    "Why is the sky blue?",
    "Напішы ліст сябру.",
    "List: a, b, c:",
    "你好",
    'Say "hi"',
)


class Batch(NamedTuple):
    """Left-padded ids and their mask: position -1 is the last prompt token of every row."""

    ids: Int[Tensor, "batch seq"]
    mask: Int[Tensor, "batch seq"]
    position_ids: Int[Tensor, "batch seq"]


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its template; `suffix` holds the ids of the end-of-instruction tokens."""

    tokenizer: Any
    suffix: tuple[int, ...]
    pad_id: int
    system: str | None = None
    thinking: Thinking = NONE

    @property
    def positions(self) -> list[int]:
        """All end-of-instruction positions, counted from the prompt's end: -n_pos ... -1."""
        return list(range(-len(self.suffix), 0))

    @property
    def inst_position(self) -> int:
        """Position of the last instruction token (t_inst of Zhao et al. 2025, arXiv 2507.11878)."""
        return -len(self.suffix) - 1

    def suffix_tokens(self) -> list[str]:
        return [self.tokenizer.decode([i]) for i in self.suffix]

    def rendered(self, text: str) -> str:
        """The prompt with all that stands before the answer, or before the model's own thought."""
        on = self.thinking.arm == "on"
        return render(self.tokenizer, text, self.system, on=on) + self.thinking.appended

    def scored(self, text: str) -> str:
        """The prompt up to where an answer begins: a thought that the model would have is closed and empty."""
        return self.rendered(text) + (self.thinking.close if self.thinking.arm == "on" else "")

    def encode_scored(self, text: str) -> list[int]:
        """Ids of `scored`: where the openings of answers are scored."""
        return _tokenize(self.tokenizer, self.scored(text)) if self.thinking.arm == "on" else self.encode(text)

    def encode(self, text: str) -> list[int]:
        """Ids of the rendered prompt. Raises `ModelError` if it does not end in the template's suffix."""
        ids = _tokenize(self.tokenizer, self.rendered(text))
        if tuple(ids[-len(self.suffix) :]) != self.suffix or len(ids) <= len(self.suffix):
            raise ModelError("a prompt does not end in the template's end-of-instruction tokens")
        return ids

    def batch(self, rows: Sequence[Sequence[int]], device: torch.device) -> Batch:
        """Left-pad to the longest row; position ids start at 0 on each row's first real token."""
        width = max(len(row) for row in rows)
        ids = torch.tensor([[self.pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        return Batch(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0))


def render(
    tokenizer: Any,
    text: str,
    system: str | None = None,
    *,
    answer: str | None = None,
    thought: str | None = None,
    generate: bool = True,
    on: bool = False,
) -> str:
    """The prompt as the model sees it; with its answer, if given, and the thought before that.

    In non-thinking mode where the template offers one, unless thoughts are asked for (`on`).

    Raises `ModelError` where the template refuses it (Gemma's takes no system prompt).
    """
    turns = [{"role": "system", "content": system}] if system is not None else []
    turns.append({"role": "user", "content": text})
    if answer is not None:
        thoughts = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), thought) if thought else {}
        turns.append({"role": "assistant", "content": answer, **thoughts})
    template = tokenizer.get_chat_template()
    from jinja2 import TemplateError

    try:
        rendered: str = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=generate,
            enable_thinking=on,
            thinking=on,
            # some templates write today's date: a run over midnight would compare two different prompts
            date_string=FIXED_DATE,
            chat_template=f"{_FIXED_NOW}{template}" if "strftime_now" in template else template,
        )
    except TemplateError as error:
        hint = "this template takes no system prompt: leave --system out" if system is not None else None
        raise ModelError(f"the chat template refuses this conversation: {error}", hint=hint) from error
    return rendered


def _tokenize(tokenizer: Any, rendered: str) -> list[int]:
    # the template writes its own special tokens; adding them again would double the BOS
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the template writes right after an answer, or None where it writes another kind.

    Models without generation settings would otherwise run on to the token limit after their answer has ended.
    """
    answer = _PROBES[0]
    try:
        rendered = render(tokenizer, _PROBES[1], answer=answer, generate=False)
    except ModelError:
        return None
    if answer not in rendered:
        return None
    rest = _tokenize(tokenizer, rendered[rendered.rindex(answer) + len(answer) :])
    added = tokenizer.added_tokens_decoder
    return rest[0] if rest and rest[0] in added and added[rest[0]].special else None


def open_chat(tokenizer: Any, system: str | None = None, thinking: Asked = "auto") -> Chat:
    """Derive the end-of-instruction tokens of a template, tags of an opened or closed thought among them.

    Raises `ModelError` if it has none.
    """
    settled = thinking_of(tokenizer, system, thinking, render)
    opened = Chat(tokenizer, (), 0, system, settled)
    encoded = []
    for probe in _PROBES:
        rendered = opened.rendered(probe)
        if probe not in rendered:
            raise ModelError("the chat template does not repeat the instruction as it is given")
        tail = rendered[rendered.rindex(probe) + len(probe) :]
        encoded.append((_tokenize(tokenizer, rendered), tail))
    suffix: list[int] = []
    for column in zip(*(reversed(ids) for ids, _ in encoded), strict=False):
        if len(set(column)) > 1:
            break
        suffix.insert(0, column[0])
    # never longer than the template's own tail: probes could share their last instruction token
    while suffix and len(tokenizer.decode(suffix)) > len(encoded[0][1]):
        suffix.pop(0)
    if not suffix:
        raise ModelError(
            "the chat template writes nothing after the instruction, so it has no end-of-instruction tokens",
            hint="is this a chat model's template?",
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Chat(tokenizer, tuple(suffix), int(pad if pad is not None else 0), system, settled)
