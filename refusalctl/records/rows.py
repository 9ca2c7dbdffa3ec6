"""The rows that pass between steps: prompts, completions, labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

from refusalctl.errors import DataError

Kind = Literal["harmful", "harmless"]
Split = Literal["train", "val", "test"]
Outcome = Literal["refusal", "compliance", "degenerate", "unparsed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


class Row:
    """A record that travels as one JSON object per line."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, row: dict[str, Any], where: str = "row") -> Self:
        """Build from a parsed line. Raises `DataError` naming `where` when fields are missing or unknown."""
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(row) - known)
        if unknown:
            raise DataError(f"{where}: unknown field {unknown[0]!r}; expected {sorted(known)}")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        try:
            return cls(**values)
        except TypeError as error:
            missing = sorted(known - set(row))
            raise DataError(f"{where}: missing field among {missing}") from error


@dataclass(frozen=True)
class Prompt(Row):
    """One request in one language.

    `id` is shared by the translations of one prompt where that alignment is shown; `kind` is the class of
    the *prompt*, never of what a model does with it. `cluster` names the English text, so that duplicates
    and translations count as one unit in statistics.
    """

    id: str
    lang: str
    kind: Kind
    split: Split
    text: str
    text_en: str | None = None
    source: str = "own"
    flags: tuple[str, ...] = ()
    cluster: str = ""


@dataclass(frozen=True)
class Completion(Row):
    """What a model wrote after one prompt, greedily, under one intervention.

    `n_tokens` counts generated tokens without padding; `truncated` means that the token limit ended it. Both are None
    where an imported file does not tell.
    """

    prompt_id: str
    lang: str
    kind: Kind
    text: str
    n_tokens: int | None
    truncated: bool | None
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    cluster: str = ""


@dataclass(frozen=True)
class Translation(Row):
    """One completion in English, or why there is none; `sha256` is the digest of the text it was made from."""

    prompt_id: str
    text: str | None
    failed: str
    sha256: str
    cluster: str = ""


@dataclass(frozen=True)
class Label(Row):
    """One judge's verdict on one completion, with the reason where the verdict needs one.

    Attributes beside the outcome: `harmful` (the response's harmfulness, None where the judge does not say), `score`
    (the judge's own number), `input_cut` (it saw only the beginning), and the response's language by
    `response_language`: `lang`, `lang_score` (lid.176's confidence, None where letters decided), `lang_near` (a close
    relative of the prompt's language) and `off_language` (None where it cannot be told).
    """

    prompt_id: str
    outcome: Outcome
    judge: str
    reason: str = ""
    truncated: bool | None = False
    cluster: str = ""
    harmful: bool | None = None
    score: float | None = None
    input_cut: bool = False
    lang: str | None = None
    lang_score: float | None = None
    lang_near: bool = False
    off_language: bool | None = None
