"""What the commands of `refusalctl data` print as JSON of prompt sets: a part of `printed`."""

from __future__ import annotations

from refusalctl.records.printed import Printed
from refusalctl.records.rows import Kind, Split


class FetchedPrompts(Printed, frozen=True):
    """`data fetch`: published files that were read and verified (of `--from`, else those here), how many were not here
    before, and the rows of each language's table; `unverified`: files whose digest is that of this first download."""

    files: int
    new: int
    rows: dict[str, int]
    name: str = "polyrefuse"
    unverified: tuple[str, ...] = ()


class PromptCount(Printed, frozen=True):
    """Rows of one class and split, and how many of them an experiment may draw."""

    rows: int
    usable: int


class ListedLanguage(Printed, frozen=True):
    """One language of a prompt set: counts by class and split."""

    lang: str
    counts: dict[Kind, dict[Split, PromptCount]]


class ListedPrompts(Printed, frozen=True):
    """An entry of `data ls`. Of published sets `licence`, `source` (repository and revision), `paper`; `digest`: what
    their files are compared with: computed, reported by others, or first download; `missing`: why there is no file."""

    name: str
    fetched: bool
    languages: tuple[ListedLanguage, ...]
    licence: str | None = None
    source: str | None = None
    paper: str | None = None
    digest: str | None = None
    missing: str | None = None


class MergedPrompts(Printed, frozen=True):
    """Rows of one language that are new, replaced or left as they were, and flags over the whole set."""

    path: str
    added: int
    replaced: int
    unchanged: int
    total: int
    flagged: dict[str, int]


class ReadFile(Printed, frozen=True):
    """What was read of a file of prompts: its form, the column of each language, columns that were not looked at, rows
    without anything, and rows without a text in one language."""

    name: str
    form: str
    columns: dict[str, str]
    ignored: tuple[str, ...]
    empty: tuple[int, ...]
    missing: dict[str, tuple[int, ...]]


class AddedPrompts(Printed, frozen=True):
    """`data add`: what was read, and what became of it by language; `shared` counts ids that another language has."""

    file: ReadFile
    languages: dict[str, MergedPrompts]
    shared: dict[str, int]


class TranslatedPrompts(MergedPrompts, frozen=True):
    """`data translate`: what was added, and the ids without a translation with the reason of each."""

    source: str
    resumed: int
    failed: dict[str, str]
