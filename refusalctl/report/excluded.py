"""Prompts that took no part, each with its reason: ids and reasons, never a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from refusalctl.data import sets
from refusalctl.errors import RefusalctlError
from refusalctl.json_types import JsonObject
from refusalctl.records.report import ExcludedPrompt
from refusalctl.records.rows import KINDS, SPLITS
from refusalctl.report.content import Content
from refusalctl.report.provenance import Provenance
from refusalctl.steps.selection.scores import read_choice

REASONS = {
    "duplicate": "says the same as another prompt",
    "leak-from-train": "is a train prompt too",
    "leak-from-val": "is a validation prompt too",
    "empty": "has no text",
    "untranslated": "was left untranslated",
}


class Reserve(NamedTuple):
    """Fit prompts of one language, split and class that the draw did not need: how many, of how many."""

    lang: str
    split: str
    kind: str
    left: int
    fit: int


class FlaggedPrompt(NamedTuple):
    """A prompt that is not used, by the flag that forbids it, in these languages."""

    kind: str
    split: str
    id: str
    flag: str
    langs: tuple[str, ...]


class Unfit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Flagged rows of a prompt set and how many are fit by `LANG SPLIT KIND`, or why they cannot be read here.

    Part of a report's recipe.
    """

    rows: tuple[FlaggedPrompt, ...] | None = None
    fit: dict[str, int] | None = None
    unreadable: str | None = None

    def to_json(self) -> JsonObject:
        found: JsonObject = msgspec.to_builtins(self)
        return found


def unfit(data: str, langs: Sequence[str]) -> Unfit:
    """What a prompt set says of its own rows."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    fit: dict[str, int] = {}
    try:
        for lang in langs:
            for prompt in sets.prompts(data, lang):
                flags = [flag for flag in prompt.flags if flag in sets.UNFIT]
                for flag in flags:
                    rows.setdefault((prompt.kind, prompt.split, prompt.id, flag), []).append(lang)
                if not flags:
                    key = f"{lang} {prompt.split} {prompt.kind}"
                    fit[key] = fit.get(key, 0) + 1
    except RefusalctlError as error:
        return Unfit(unreadable=error.message)
    flagged = tuple(FlaggedPrompt(*key, tuple(sorted(langs))) for key, langs in sorted(rows.items()))
    return Unfit(flagged, dict(sorted(fit.items())))


def excluded(raw: Unfit, rows: Content, found: Provenance) -> list[ExcludedPrompt]:
    """Flagged rows of the prompt set, then validation prompts that the refusal score filtered out."""
    flagged = [
        ExcludedPrompt(each.kind, each.split, each.id, REASONS.get(each.flag, each.flag), each.langs)
        for each in raw.rows or ()
    ]
    return flagged + _filtered(rows, found)


def _filtered(rows: Content, found: Provenance) -> list[ExcludedPrompt]:
    result = []
    for lang, choice in rows.choices.items():
        selection = found.by_id[choice.artifact]
        validation = read_choice(selection).validation
        if validation is None or validation.baseline is None:
            continue
        for kind in KINDS:
            ids = _val_ids(found, choice.artifact, kind)
            kept = set(validation.kept.of(kind))
            wrong = "not above 0" if kind == "harmful" else "not below 0"
            for i, value in enumerate(validation.baseline.of(kind)):
                if i not in kept and i < len(ids):
                    reason = f"baseline refusal score {value:.2f}, {wrong}"
                    result.append(ExcludedPrompt(kind, "val", ids[i], reason, (lang,), choice.artifact))
    return result


def _val_ids(found: Provenance, selection: str, kind: str) -> list[str]:
    """Ids of the validation prompts behind a selection, in the order of its scores."""
    waiting = [found.by_id[selection]]
    while waiting:
        artifact = waiting.pop(0)
        for name, identifier in artifact.inputs.items():
            if name == f"val_{kind}":
                ids: list[str] = found.by_id[identifier].manifest["recipe"]["params"]["ids"]
                return ids
            waiting.append(found.by_id[identifier])
    return []


def reserve(raw: Unfit, rows: Content) -> list[Reserve]:
    """Where more fit prompts were there than were drawn."""
    found = []
    for lang in rows.languages:
        for split in SPLITS:
            for kind in KINDS:
                fit, drawn = (raw.fit or {}).get(f"{lang} {split} {kind}"), rows.drawn.get((lang, split, kind))
                if fit is not None and drawn is not None and fit > drawn.n:
                    found.append(Reserve(lang, split, kind, fit - drawn.n, fit))
    return found
