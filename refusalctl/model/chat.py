"""From an instruction to token ids: the chat template around it, its end-of-instruction tokens, padding.

The end-of-instruction tokens are what the template writes between the instruction and the model's answer
(Arditi et al. 2024, arXiv 2406.11717, section 2.3 and appendix C.3: "post-instruction tokens"). They are
derived here by rendering several different instructions and comparing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeGuard

import torch
from jaxtyping import Int
from torch import Tensor

from refusalctl.control_marks import TURN_MARKS
from refusalctl.errors import ModelError
from refusalctl.model.chat_template import OTHER, Frame, frame, placed, render, template_of
from refusalctl.model.control_tokens import control_tokens, controls, neutral
from refusalctl.model.reasoning import NONE, Asked, Thinking, thinking_of
from refusalctl.model.transformers_types import Tokenizer

__all__ = ["Batch", "Chat", "EncodedPrompt", "end_of_turn", "open_chat", "render"]

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


class EncodedPrompt(NamedTuple):
    """Ids of a rendered prompt, and what was done to it.

    `neutralised`: it held control tokens, which were broken. `trimmed`: the template left its outer whitespace out.
    `unknown`: tokens of it that the tokenizer has no sign for, so that the model does not see them.
    """

    ids: list[int]
    neutralised: bool = False
    trimmed: bool = False
    unknown: int = 0


class Padding(NamedTuple):
    """The token that fills rows up, and what is to be said about it. It is masked: any id of the model will do."""

    id: int
    note: str = ""


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its template; `suffix` holds the ids of the end-of-instruction tokens.

    `system` is the system text as it was asked for; `frame` what the template writes around every prompt, with that
    text in it; `controls` the control tokens of a prompt that holds none itself. `n_embeddings`: how many tokens the
    model has (None: not known). `notes`: what a user should know.
    """

    tokenizer: Tokenizer
    suffix: tuple[int, ...]
    pad_id: int
    system: str | None = None
    frame: Frame = field(default_factory=lambda: Frame("", ""))
    controls: tuple[int, ...] = ()
    n_embeddings: int | None = None
    notes: tuple[str, ...] = ()
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
        return self._rendered(self.neutral(text))

    def scored(self, text: str) -> str:
        """The prompt up to where an answer begins: a thought that the model would have is closed and empty."""
        return self.rendered(text) + self._closing

    def encode_scored(self, text: str) -> list[int]:
        """Ids of `scored`, proved as `encode` does: where the openings of answers are scored."""
        return self.read(text, scored=True).ids

    @property
    def _closing(self) -> str:
        return self.thinking.close if self.thinking.arm == "on" else ""

    def encode(self, text: str) -> list[int]:
        """Ids of the rendered prompt. Raises `ModelError` as `read` does."""
        return self.read(text).ids

    def read(self, text: str, *, scored: bool = False) -> EncodedPrompt:
        """The rendered prompt as ids, proved to be what was asked; `scored`: up to where an answer begins.

        Raises `ModelError` where the prompt is empty or does not stand in it whole and once, where it holds control
        tokens that cannot be broken or tokens that the model does not have, and where it does not end in the
        template's suffix.
        """
        if not text.strip():
            raise ModelError("a prompt is empty", hint="leave it out of the prompt set")
        clean = self.neutral(text)
        rendered = self._rendered(clean)
        trimmed = placed(self.frame, rendered, clean)
        ids = _tokenize(self.tokenizer, rendered)
        self._check_controls(ids)
        check_known(self.tokenizer, ids, self.n_embeddings)
        if tuple(ids[-len(self.suffix) :]) != self.suffix or len(ids) <= len(self.suffix):
            raise ModelError(
                "a prompt does not end in the template's end-of-instruction tokens: its last signs join them",
                hint="let it end in a letter or a full stop",
            )
        unknown = ids.count(_unknown(self.tokenizer))
        if scored and self._closing:
            ids = _tokenize(self.tokenizer, rendered + self._closing)
        return EncodedPrompt(ids, clean != text, trimmed, unknown)

    def batch(self, rows: Sequence[Sequence[int]], device: torch.device) -> Batch:
        """Left-pad to the longest row; position ids start at 0 on each row's first real token."""
        width = max(len(row) for row in rows)
        ids = torch.tensor([[self.pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        return Batch(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0))

    def neutral(self, text: str) -> str:
        """A prompt's text with all broken that would open or close a turn, a thought or an answer of this model."""
        return neutral(self.tokenizer, text, own_marks(self.tokenizer, self.frame, self.thinking))

    def _rendered(self, clean: str) -> str:
        system = None if self.system is None else neutral(self.tokenizer, self.system)
        return render(self.tokenizer, clean, system, on=self.thinking.arm == "on") + self.thinking.appended

    def _check_controls(self, ids: Sequence[int]) -> None:
        """Whether a prompt adds no control token to the template's own, and takes none away."""
        found = controls(self.tokenizer, ids)
        if found == self.controls:
            return
        names = control_tokens(self.tokenizer)
        extra = [names[i] for i in found if found.count(i) != self.controls.count(i)]
        told = f"{extra[0]!r}" if extra else "control tokens"
        raise ModelError(
            f"the tokenizer reads {told} out of a prompt, though its control strings were broken: it would open turns",
            hint="reword the prompt, or leave it out",
        )


def _tokenize(tokenizer: Tokenizer, rendered: str) -> list[int]:
    # the template writes its own special tokens; adding them again would double the BOS
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids


def _unknown(tokenizer: Tokenizer) -> int:
    """The id of what the tokenizer does not know, -1 where there is none, or where it also begins or ends texts."""
    found = tokenizer.unk_token_id
    return -1 if found in (None, tokenizer.bos_token_id, tokenizer.eos_token_id) else int(found)


def check_known(tokenizer: Tokenizer, ids: Sequence[int], n_embeddings: int | None, what: str = "a prompt") -> None:
    """Raise `ModelError` for a token that the tokenizer has and the model has not."""
    beyond = [i for i in ids if n_embeddings is not None and i >= n_embeddings]
    if beyond:
        token = tokenizer.convert_ids_to_tokens(beyond[0])
        raise ModelError(
            f"{what} holds the token {token!r} ({beyond[0]}), but the model has embeddings for {n_embeddings} tokens",
            hint="the tokenizer does not belong to these weights, or tokens were added to it alone",
        )


def turn_mark(tokenizer: Tokenizer, where: Frame) -> re.Pattern[str] | None:
    """What a template without control tokens writes behind a prompt (`### Response:`), to be broken inside prompts.

    None where control tokens or well-known marks stand there, which are broken anyway.
    """
    words = where.after.strip()
    known = TURN_MARKS.search(words) or any(token in words for token in control_tokens(tokenizer).values())
    if known or len(words) < 4 or words.isalpha():
        return None
    return re.compile(re.escape(words))


def own_marks(tokenizer: Tokenizer, where: Frame, thinking: Thinking) -> re.Pattern[str] | None:
    """What this model's template and thoughts are marked by and no tokenizer knows: `turn_mark`, and tags of thoughts.

    Tags need not be tokens (`[THINK]`, `Here is my response:`); inside a prompt they would end a thought all the same.
    """
    turn = turn_mark(tokenizer, where)
    tags = {tag for form in thinking.forms for tag in (form.opens, form.closes, *(form.answer or ()))}
    found = ([turn.pattern] if turn else []) + [re.escape(tag) for tag in sorted(tags, key=len, reverse=True)]
    return re.compile("|".join(found)) if found else None


def end_of_turn(tokenizer: Tokenizer) -> int | None:
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


def open_chat(
    tokenizer: Tokenizer, system: str | None = None, n_embeddings: int | None = None, thinking: Asked = "auto"
) -> Chat:
    """Derive the end-of-instruction tokens of a template. Raises `ModelError` if it has none, or if a prompt or the
    system text would not reach the model whole (`chat_template.frame`)."""
    clean = None if system is None else neutral(tokenizer, system)
    settled = thinking_of(tokenizer, clean, thinking, render, template_of(tokenizer))
    on, appended = settled.arm == "on", settled.appended
    where = frame(tokenizer, clean, on)
    where = where._replace(after=where.after + appended)
    encoded = []
    for probe in _PROBES:
        rendered = render(tokenizer, probe, clean, on=on) + appended
        placed(where, rendered, probe)
        encoded.append(_tokenize(tokenizer, rendered))
    suffix: list[int] = []
    for column in zip(*(reversed(ids) for ids in encoded), strict=False):
        if len(set(column)) > 1:
            break
        suffix.insert(0, column[0])
    # never longer than the template's own tail: probes could share their last instruction token
    while suffix and len(tokenizer.decode(suffix)) > len(where.after):
        suffix.pop(0)
    if not suffix:
        raise ModelError(
            "the chat template writes nothing after the instruction, so it has no end-of-instruction tokens",
            hint=f"is this a chat model's template? {OTHER}",
        )
    check_known(tokenizer, encoded[0], n_embeddings, "the chat template")
    pad, note = padding(tokenizer, n_embeddings)
    own = controls(tokenizer, encoded[0])
    notes = [note] if note else []
    if clean != system:
        notes.append("the system prompt holds control tokens of the model: they were broken by a space")
    if system is not None:
        _check_system(tokenizer, own, settled)
    return Chat(tokenizer, tuple(suffix), pad, system, where, own, n_embeddings, tuple(notes), settled)


def _check_system(tokenizer: Tokenizer, own: tuple[int, ...], thinking: Thinking) -> None:
    """A system text adds no control tokens to those of a plain one."""
    brief = render(tokenizer, _PROBES[0], "Be brief.", on=thinking.arm == "on") + thinking.appended
    plain = controls(tokenizer, _tokenize(tokenizer, brief))
    if own != plain:
        raise ModelError(
            "the system prompt adds control tokens to the template's own, though its control strings were broken",
            hint="reword it",
        )


def padding(tokenizer: Tokenizer, n_embeddings: int | None) -> Padding:
    """The tokenizer's pad token, or the next that the model has an embedding for."""

    def there(i: int | None) -> TypeGuard[int]:
        return i is not None and i >= 0 and (n_embeddings is None or i < n_embeddings)

    asked = tokenizer.pad_token_id
    chosen = next(i for i in (asked, tokenizer.eos_token_id, tokenizer.bos_token_id, 0) if there(i))
    if asked is None or there(asked):
        return Padding(chosen)
    return Padding(
        chosen,
        f"the pad token {tokenizer.pad_token!r} ({asked}) is none of the model's {n_embeddings} embeddings: rows are "
        f"filled with {tokenizer.decode([chosen])!r} ({chosen}), which is masked anyway",
    )
