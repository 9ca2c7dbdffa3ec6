"""Names out of a user's file, shown without showing a prompt: without a header it has one where names belong."""

from __future__ import annotations

import re

MOST = 40


def looks_like_text(name: str) -> bool:
    """Whether a column's name reads like a sentence rather than a name."""
    return len(name) > MOST or len(name.split()) > 3 or bool(re.search(r"[.?!,;:。？！،؟]\s*$", name))


def shown(name: object) -> str:
    """`'goal'`, and of what looks like a text only its length."""
    text = str(name)
    return f"(a text of {len(text)} characters)" if looks_like_text(text) else repr(text)
