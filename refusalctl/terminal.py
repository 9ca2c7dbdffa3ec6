"""Text from outside on its way to a terminal or a log: what would move the cursor, turn the line around, name the
window or write the clipboard is shown as an escape. Letters of every script, and what joins them, stay as they are.

`cli.out` and `consoles` pass everything that is printed through here.
"""

from __future__ import annotations

import re

# control characters but for the ends of lines and tabs; ends of lines that are none of ASCII; marks that turn the order
# of what follows around (Boucher and Anderson 2021, "Trojan Source"); annotations and tags that nobody sees; halves of
# characters, which no stream can write
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff"
    "\U000e0001\U000e0020-\U000e007f]"
)


def safe(text: str) -> str:
    """The text with everything that is no text as `\\x1b` or `\\u202e`. Ends of lines and tabs stay."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escape, text)


def safe_json(document: str) -> str:
    """The same for a JSON document, which then still holds the same values."""
    return _UNSAFE.sub(_json_escape, document)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
