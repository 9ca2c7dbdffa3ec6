"""What `data audit` counts about a set of prompts: ids and counts, never a text."""

from __future__ import annotations

from typing import Self

import msgspec

from refusalctl.records.printed import Printed
from refusalctl.records.record import Part
from refusalctl.records.rows import Kind, Split


class Identification(Part, frozen=True):
    """How many texts were identified as their language. `unknown_to_identifier`: it cannot name it at all.

    `share` of those checked, None where none could be.
    """

    checked: int
    as_expected: int
    too_short: int
    others: dict[str, int]
    suspect_ids: tuple[str, ...]  # surely another language
    unknown_to_identifier: bool
    share: float | None

    @classmethod
    def counted(
        cls,
        checked: int,
        as_expected: int,
        too_short: int,
        others: dict[str, int],
        suspect_ids: tuple[str, ...],
        *,
        unknown: bool = False,
    ) -> Self:
        share = as_expected / checked if checked and not unknown else None
        return cls(checked, as_expected, too_short, others, suspect_ids, unknown, share)


class SetAudit(Part, frozen=True):
    """One language, class and split.

    `pairing` says how rows are tied to English: `source text`, `position`, `id`, `none`, `itself`, or
    `no English` where there is nothing to be tied to.
    `rho` is Spearman's rank correlation of text lengths with the English ones, where rows can be paired.
    `control_marks` holds the ids of rows with control tokens of chat formats in their text.
    `html_raw` counts rows with HTML entities as published, `html_left` what is left after cleaning.
    """

    lang: str
    kind: Kind
    split: Split
    rows: int
    duplicates: int
    leaks: dict[str, int]
    same_text: int
    empty: int
    untranslated: int
    html_raw: int
    html_left: int
    pairing: str
    shared_with_english: int
    rho: float | None
    length_outliers: tuple[str, ...]
    identified: Identification
    control_marks: tuple[str, ...] = ()


class Pool(Part, frozen=True):
    """Languages whose prompts of one class and split have exactly the same ids."""

    kind: Kind
    split: Split
    langs: tuple[str, ...]
    ids: int
    shared_with_others: dict[str, int] = msgspec.field(default_factory=dict)


class Containment(Part, frozen=True):
    """A published English file, and how many of its rows are also prompts of a class and split."""

    file: str
    rows: int
    kind: Kind
    split: Split
    inside: int


class Finding(Part, frozen=True):
    """What, in which class and split, how often, in which languages, and what the number counts."""

    about: str
    where: str
    count: int
    langs: tuple[str, ...]
    note: str


class Audit(Printed, frozen=True):
    """`data audit`: everything counted about the languages `langs` of one set, and what a reader should know of it."""

    data: str
    langs: tuple[str, ...]
    sets: tuple[SetAudit, ...]
    pools: tuple[Pool, ...]
    contained: tuple[Containment, ...]
    in_both_classes: dict[str, int]
    findings: tuple[Finding, ...] = ()
