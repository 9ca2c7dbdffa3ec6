"""From a judge's input format to token ids, so that the judged text cannot pass for the format.

A completion may hold the judge's own control tokens or a finished verdict. Three guards: control strings in the
text are broken by a space; the encoded prompt must hold exactly the control tokens of the empty format; and a
verdict is read from generated tokens alone (`generative`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from refusalctl.errors import ModelError
from refusalctl.json_types import Json
from refusalctl.model.control_tokens import controls, neutral
from refusalctl.model.judges.protocol import Item

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import Tokenizer

_SHORTEST = 64  # characters of a text that are left when it is cut to fit
Render = Callable[["Tokenizer", Item], str]


class EncodedItem(NamedTuple):
    """Ids of one prompt, or the reason why there are none; `cut` when the text had to be shortened."""

    ids: list[int]
    cut: bool = False
    failed: str = ""


def encode(tokenizer: Tokenizer, render: Render, item: Item, limit: int, *, special: bool = False) -> EncodedItem:
    """Ids of the judge's prompt, at most `limit` of them; the longer of the two texts is cut where it is too long.

    `special` asks the tokenizer for its own first and last tokens; formats that write them do without.
    """
    clean = Item(neutral(tokenizer, item.prompt or ""), neutral(tokenizer, item.response), item.lang)
    ids = _ids(tokenizer, render, clean, special)
    cut = False
    while ids is not None and len(ids) > limit:
        clean, before, cut = _shortened(clean, limit / len(ids)), clean, True
        if clean == before:
            raise ModelError(f"the judge's format alone is longer than its context of {limit} tokens")
        ids = _ids(tokenizer, render, clean, special)
    if ids is None:
        return EncodedItem([], cut, "the judge's template changes the text")
    if Counter(controls(tokenizer, ids)) != _controls_of_format(tokenizer, render, special):
        return EncodedItem([], cut, "control tokens in the text")
    return EncodedItem(ids, cut)


def _ids(tokenizer: Tokenizer, render: Render, item: Item, special: bool) -> list[int] | None:
    rendered = render(tokenizer, item)
    if item.response.strip() not in rendered or (item.prompt or "").strip() not in rendered:
        return None  # some templates drop or rewrite parts of a message
    ids: list[int] = tokenizer(rendered, add_special_tokens=special)["input_ids"]
    return ids


def _shortened(item: Item, share: float) -> Item:
    """Cut the end of the longer text, or of both where that is not enough."""
    prompt, response = item.prompt or "", item.response
    room = int((len(prompt) + len(response)) * min(share, 0.98))
    keep = max(_SHORTEST, room // 2, room - min(len(prompt), len(response)))
    return Item(prompt[:keep], response[:keep], item.lang)


def _controls_of_format(tokenizer: Tokenizer, render: Render, special: bool) -> Counter[int]:
    ids: list[int] = tokenizer(render(tokenizer, Item("a", "a", "en")), add_special_tokens=special)["input_ids"]
    return Counter(controls(tokenizer, ids))


def turns(roles: Callable[[Item], Sequence[Mapping[str, Json]]]) -> Render:
    """A format that is the tokenizer's own chat template over some turns, up to where the judge answers."""

    def render(tokenizer: Tokenizer, item: Item) -> str:
        if not tokenizer.chat_template:
            raise ModelError(
                "the judge's tokenizer has no chat template",
                hint="--judge-model needs the judge's own files, not those of its base model",
            )
        text: str = tokenizer.apply_chat_template(roles(item), tokenize=False, add_generation_prompt=True)
        return text

    return render


def fill(template: str) -> Render:
    """A format that is a text with {prompt} and {response}; braces in the judged text stay text."""

    def render(_tokenizer: Tokenizer, item: Item) -> str:
        return template.format(prompt=item.prompt, response=item.response)

    return render
