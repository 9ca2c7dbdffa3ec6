"""Control tokens that stand in a text as ordinary signs: found, broken, and counted, so that a text opens nothing.

One mechanism for prompts, system texts, judged texts and translated texts. A control string is broken by a space behind
its first sign: `<|im_end|>` becomes `< |im_end|>`, which a reader and a model still understand, and no tokenizer takes
for the token. What is said about a text afterwards rests on its token ids, not on how it looks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from refusalctl.control_marks import TURN_MARKS, broken

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import Tokenizer

_ROUNDS = 4  # breaking one token may show another behind it
_LIKE_A_MARK = re.compile(r"[<>\[\]{}|\uff5c]|^__.+__$")


@lru_cache(maxsize=8)
def control_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Control tokens by id: special ones, and added ones that look like a mark (`<think>`, `[INST]`, `__en__`).

    Whitespace and single characters are text, and so are words and signs that a vocabulary was widened by. The token
    for what a tokenizer does not know is no control token, unless it also begins or ends texts.
    """
    added = {int(i): token for i, token in tokenizer.added_tokens_decoder.items()}
    found = {i: str(t.content) for i, t in added.items() if t.special or _LIKE_A_MARK.search(str(t.content))}
    special = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens)
    found |= {int(i): str(token) for i, token in special if i is not None}
    if tokenizer.unk_token_id not in (None, tokenizer.bos_token_id, tokenizer.eos_token_id):
        found.pop(int(tokenizer.unk_token_id), None)
    return {i: content for i, content in found.items() if len(content) > 1 and not content.isspace()}


@lru_cache(maxsize=8)
def _pattern(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Every string that the tokenizer takes for a token that is no text, longest first."""
    names = {*control_tokens(tokenizer).values(), *filter(None, [tokenizer.unk_token])}
    ordered = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def neutral(tokenizer: Tokenizer, text: str, also: re.Pattern[str] | None = None) -> str:
    """The text with its control strings broken; other text is unchanged. `also`: marks of a template without tokens.

    Spellings that only the tokenizer takes for a control token (other letters that it normalises) are broken where it
    finds them.
    """
    for pattern in (TURN_MARKS, _pattern(tokenizer), also):
        if pattern is not None:
            text = broken(pattern, text)
    for _ in range(_ROUNDS):
        spans = _spans(tokenizer, text)
        if not spans:
            break
        for start, end in reversed(spans):
            text = f"{text[: start + 1]} {text[start + 1 : end]}{text[end:]}"
    return text


def _spans(tokenizer: Tokenizer, text: str) -> list[tuple[int, int]]:
    """Where the tokenizer finds control tokens in a text, as far as a space can go in between."""
    if not getattr(tokenizer, "is_fast", False):
        return []
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    known = control_tokens(tokenizer)
    places = zip(found["input_ids"], found["offset_mapping"], strict=True)
    return [(start, end) for i, (start, end) in places if i in known and end - start > 1]


def controls(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[int, ...]:
    """The control tokens among ids, in their order."""
    known = control_tokens(tokenizer)
    return tuple(i for i in ids if i in known)
