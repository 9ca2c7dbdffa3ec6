"""Long texts in pieces that a translator takes, and put together again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# a stop of any script, with closing quotes; the ideographic ones need no space behind them
_STOP = re.compile(r"(?<=[.!?…؟۔։])[\"'»”’)\]]*\s+|(?<=[。！？])\s*")


class Pieces(NamedTuple):
    """Lines of a text, each as pieces of at most the limit. Empty lines have no piece."""

    lines: tuple[tuple[str, ...], ...]

    @property
    def flat(self) -> list[str]:
        return [piece for line in self.lines for piece in line]

    def joined(self, translated: Sequence[str]) -> str:
        """The text with every piece replaced, lines kept."""
        rest = iter(translated)
        return "\n".join(" ".join(next(rest) for _ in line) for line in self.lines)


def pieces(text: str, limit: int, *, sentences: bool) -> Pieces:
    """Cut at line ends and, where `sentences` or a line is longer than `limit` characters, at sentence ends.

    A sentence beyond the limit is cut at spaces, a word beyond it anywhere. Nothing but spaces is lost.
    """
    return Pieces(tuple(tuple(_of_line(line.strip(), limit, sentences)) for line in text.splitlines()))


def _of_line(line: str, limit: int, sentences: bool) -> list[str]:
    if not line:
        return []
    if not sentences and len(line) <= limit:
        return [line]
    parts = [part for each in _sentences(line) for part in _short(each, limit)]
    return parts if sentences else _packed(parts, limit)


def _sentences(line: str) -> list[str]:
    cuts, start = [], 0
    for stop in _STOP.finditer(line):
        if stop.end() > start:
            cuts.append(line[start : stop.end()].strip())
            start = stop.end()
    return [part for part in [*cuts, line[start:].strip()] if part]


def _short(sentence: str, limit: int) -> list[str]:
    if len(sentence) <= limit:
        return [sentence]
    words = [word[i : i + limit] for word in sentence.split() for i in range(0, len(word), limit)]
    return _packed(words, limit)


def _packed(parts: Sequence[str], limit: int) -> list[str]:
    """Neighbours joined by a space while they stay within the limit."""
    packed: list[str] = []
    for part in parts:
        if packed and len(packed[-1]) + 1 + len(part) <= limit:
            packed[-1] = f"{packed[-1]} {part}"
        else:
            packed.append(part)
    return packed
