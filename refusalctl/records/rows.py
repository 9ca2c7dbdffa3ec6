"""The rows that pass between steps, one JSON object a line: prompts, completions, translations, labels, sheet rows."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import msgspec

from refusalctl.errors import DataError

Kind = Literal["harmful", "harmless"]
Split = Literal["train", "val", "test"]
Outcome = Literal["refusal", "compliance", "degenerate", "unparsed"]
ReasoningState = Literal["none", "empty", "closed", "unfinished"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record that travels as one JSON object per line."""

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values

    @classmethod
    def from_json(cls, row: dict[str, Any], where: str = "row") -> Self:
        """Build from a parsed line.

        Raises `DataError` naming `where` and the field that is missing, unknown or of another type. Values are not
        quoted: they may be harmful texts.
        """
        try:
            return msgspec.convert(row, cls)
        except msgspec.ValidationError as error:
            raise DataError(f"{where}: {cls._fault(row, error)}") from error

    @classmethod
    def _fault(cls, row: dict[str, Any], error: msgspec.ValidationError) -> str:
        fields = msgspec.structs.fields(cls)
        unknown = sorted(set(row) - {field.name for field in fields})
        if unknown:
            return f"unknown field {unknown[0]!r}; expected {sorted(field.name for field in fields)}"
        missing = sorted(field.name for field in fields if field.required and field.name not in row)
        if missing:
            return f"missing field {missing[0]!r}"
        what, _, path = str(error).partition(" - at ")
        if what.startswith("Invalid enum value"):
            what = "not one of the known values"
        return f"field {path.strip('`').removeprefix('$.')}: {what.replace('`', '').replace('Expected', 'expected')}"


class Prompt(Row, frozen=True):
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


class Completion(Row, frozen=True):
    """What a model wrote after one prompt, greedily, under one intervention.

    `text`, `token_ids` and `n_tokens` are the answer's: without padding, and without the thought before it.
    `truncated` means that a token limit ended it. Both are None where an imported file does not tell.

    `reasoning` is the thought that the model wrote itself, and `reasoning_tokens` counts its tokens, tags included.
    `reasoning_state`: `none` written, `empty`, `closed`, or `unfinished`, and then there is no answer to judge.
    `reasoning_form` says by which tags it was found.
    """

    prompt_id: str
    lang: str
    kind: Kind
    text: str
    n_tokens: int | None
    truncated: bool | None
    token_ids: tuple[int, ...] = ()
    cluster: str = ""
    reasoning: str | None = None
    reasoning_tokens: int = 0
    reasoning_state: ReasoningState = "none"
    reasoning_form: str = ""

    @property
    def unfinished(self) -> bool:
        """Whether the thought did not end, so that there is no answer to judge."""
        return self.reasoning_state == "unfinished"

    def __repr__(self) -> str:
        """Without the token ids, which say nothing to a reader, and without a thought where there is none."""
        names = [name for name in self.__struct_fields__ if name != "token_ids"]
        if self.reasoning_state == "none":
            names = [name for name in names if not name.startswith("reasoning")]
        shown = (f"{name}={getattr(self, name)!r}" for name in names)
        return f"Completion({', '.join(shown)})"


class Translation(Row, frozen=True):
    """One completion in English, or why there is none; `sha256` is the digest of the text it was made from."""

    prompt_id: str
    text: str | None
    failed: str
    sha256: str
    cluster: str = ""


class Label(Row, frozen=True):
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


class SheetRow(Row, frozen=True):
    """One row of a sheet for annotators: what its opaque id stands for.

    The stratum, completions that the judge gave one outcome, holds `size` of them; `drawn` are on the sheet.
    """

    id: str
    completions: str
    prompt_id: str
    outcome: Outcome
    size: int
    drawn: int
    cluster: str = ""

    @property
    def stratum(self) -> tuple[str, str]:
        """Completions (the condition) and what the judge said of them."""
        return self.completions, self.outcome
