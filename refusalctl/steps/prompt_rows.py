"""Rows of prompts artifacts, and what a model's chat template makes of them: whole, and with room for an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from refusalctl.data import sets
from refusalctl.errors import BadInput, ModelError
from refusalctl.model.context import Longest, Positions, check_fits
from refusalctl.records.rows import Prompt
from refusalctl.store import formats
from refusalctl.store.artifact import Artifact

if TYPE_CHECKING:
    from refusalctl.model.chat import Chat, EncodedPrompt

PROMPTS_FILE = "prompts.jsonl"


def read_prompts(artifact: Artifact) -> list[Prompt]:
    """Rows of a prompts artifact. Raises `BadInput` if it holds none."""
    rows = [Prompt.from_json(row, PROMPTS_FILE) for row in formats.read_rows(artifact.path / PROMPTS_FILE)]
    if not rows:
        raise BadInput(f"{artifact.label} holds no prompts")
    return rows


def rows_of(artifact: Artifact) -> list[Prompt]:
    """The prompts of an artifact, which may be planned only."""
    if not artifact.planned:
        return read_prompts(artifact)
    params = artifact.manifest["recipe"]["params"]
    return sets.pick(params["data"], params["lang"], params["ids"])


def encoded(chat: Chat, rows: Sequence[Prompt], scored: bool = False) -> dict[str, EncodedPrompt]:
    """Every row encoded, by its id."""
    found = {}
    for row in rows:
        try:
            found[row.id] = chat.read(row.text, scored=scored)
        except ModelError as error:
            raise ModelError(f"prompt {row.id!r} ({row.lang}): {error.message}", hint=error.hint) from error
    return found


def check_room(read: Mapping[str, EncodedPrompt], limit: Positions, new_tokens: int, think_tokens: int) -> Longest:
    """The longest prompt. Raises `ModelError` where it and what may follow it do not fit."""
    longest = max((Longest(i, len(each.ids)) for i, each in read.items()), key=lambda each: each.tokens)
    check_fits(limit, longest, new_tokens + think_tokens, think_tokens)
    return longest
