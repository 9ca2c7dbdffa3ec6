"""Prompts of model organisms: made by rule in artificial languages, the same ids in each."""

from __future__ import annotations

from typing import cast

from refusalctl.data.language_identification import SOURCE
from refusalctl.organisms.designs import PREFIX, parse
from refusalctl.organisms.words import rows, say
from refusalctl.records.rows import Kind, Prompt, Split

__all__ = ["PREFIX", "languages", "prompts"]


def languages(data: str) -> list[str]:
    """Raises `BadInput` for a name that is no organism."""
    return list(parse(data).design.langs)


def prompts(data: str, lang: str) -> tuple[Prompt, ...]:
    organism = parse(data)
    return tuple(
        Prompt(
            row.id,
            lang,
            cast(Kind, row.kind),
            cast(Split, row.split),
            say(organism, row, lang),
            source=SOURCE,
            cluster=row.id,
        )
        for row in rows(organism)
    )
