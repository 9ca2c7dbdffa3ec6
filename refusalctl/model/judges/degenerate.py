"""Text that answers nothing: empty, without letters, or a loop. Measured on characters, so that no script
and no tokenizer is favoured (byte compression favours scripts of several bytes a letter)."""

from __future__ import annotations

GRAM = 10
MIN_CHARACTERS = 40
MAX_REPEATED = 0.5
MIN_LOOP = 24


def repeated_share(text: str) -> float:
    """Share of the text's 10-character windows that occurred before in it; 0.0 for a text shorter than that."""
    windows = [text[i : i + GRAM] for i in range(len(text) - GRAM + 1)]
    return 1 - len(set(windows)) / len(windows) if windows else 0.0


def looping_tail(text: str) -> int:
    """Length of the longest ending that is one unit of up to 40 characters said at least three times."""
    longest = 0
    for period in range(1, min(40, len(text) // 3) + 1):
        length = period
        while length < len(text) and text[-length - 1] == text[-length - 1 + period]:
            length += 1
        if length >= 3 * period:
            longest = max(longest, length)
    return longest


def degenerate_reason(text: str) -> str | None:
    """Why a text is degenerate, or None."""
    plain = " ".join(text.split())
    if not any(c.isalnum() for c in plain):
        return "empty" if not plain else "no letters"
    tail = looping_tail(plain)
    if tail >= MIN_LOOP and 2 * tail >= len(plain):
        return "loop"
    if len(plain) >= MIN_CHARACTERS and repeated_share(plain) > MAX_REPEATED:
        return "repetition"
    return None
