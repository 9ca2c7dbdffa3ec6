"""Arms of a comparison of system prompts: what the template writes by itself, nothing, or a text of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from refusalctl.errors import ModelError
from refusalctl.model.chat_template import PROMPT_WORD, render

if TYPE_CHECKING:
    from refusalctl.model.transformers_types import Tokenizer

OWN: Literal["own"] = "own"
NONE: Literal["none"] = "none"
EMPTY = ""  # a system turn without words


def system_text(tokenizer: Tokenizer, arm: Literal["own", "none"]) -> str | None:
    """What the setting `system` has to be for an arm that names no text: None (no system turn is asked for) or `EMPTY`.

    `own` is what the template does where it is told nothing, with the text of its family if it has one. `none` is the
    shorter of that and an empty system turn: an empty turn takes a family's text away (Qwen2.5), but where the family
    has none it would put a turn there that nobody asked for (Llama 3). Raises `ModelError` where the template does not
    render a plain prompt.
    """
    own = render(tokenizer, PROMPT_WORD)
    if arm == OWN:
        return None
    try:
        empty = render(tokenizer, PROMPT_WORD, EMPTY)
    except ModelError:  # Gemma's takes no system turn at all
        return None
    return EMPTY if len(empty) < len(own) else None
