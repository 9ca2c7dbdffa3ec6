"""Prompts, answers and labels. `rows` hold texts that may be harmful; nothing that is shown does."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.results.base import Result, Table
from refusalctl.stats.outcomes import READ_OUTCOMES, read_outcome
from refusalctl.stats.rates import outcome_rate
from refusalctl.steps.completions import read_completions
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.steps.labelling.translations import read_translations
from refusalctl.steps.prompt_rows import read_prompts

if TYPE_CHECKING:
    import pandas as pd

    from refusalctl.records.rows import Completion, Label, Prompt
    from refusalctl.stats.rates import Rate


class Prompts(Result):
    """The drawn prompts of one language, class and split. `rows` holds their texts: treat them with care."""

    kind = "prompts"

    @cached_property
    def rows(self) -> list[Prompt]:
        return read_prompts(self.artifact)

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.rows]

    def __len__(self) -> int:
        return int(self.about["n"])


class Completions(Result):
    """Greedy answers under one intervention. `rows` holds texts that may be harmful."""

    kind = "completions"

    @cached_property
    def rows(self) -> list[Completion]:
        return read_completions(self.artifact)

    @property
    def checks(self) -> JsonObject:
        """What was measured while they were written: hooks fired, projection left at every block."""
        found: JsonObject = self.store.run_info(self.artifact)["checks"]
        return found

    def __len__(self) -> int:
        return int(self.about["n"])


class Translations(Result):
    """Completions in English, or why there is none."""

    kind = "translations"

    def summary(self) -> str:
        """How many were translated, and why the others were not."""
        rows = read_translations(self.artifact)
        failed = Counter(row.failed for row in rows if row.failed)
        why = f" ({', '.join(f'{n} {reason}' for reason, n in failed.most_common())})" if failed else ""
        return f"{len(rows) - failed.total()} of {len(rows)} translated{why}"


class Labels(Result):
    """One label per completion, by one judge."""

    kind = "labels"

    @cached_property
    def rows(self) -> list[Label]:
        return read_labels(self.artifact)

    @property
    def counts(self) -> dict[str, int]:
        """How many completions the judge gave which outcome, whatever language they are in."""
        return dict(Counter(row.outcome for row in self.rows))

    def rate(self, outcome: str = "refusal") -> Rate:
        """Share of labelled completions, with `wilson()`; `outcome` is refusal, compliance, degenerate or off-language.

        Compliance in another language is off-language, as in a transfer. Raises `BadInput` for another outcome, and
        where none is labelled.
        """
        known = [each for each in READ_OUTCOMES if each != "unparsed"]
        if outcome not in known:
            raise BadInput(f"there is no rate of {outcome!r}", hint=f"choose {', '.join(known)}")
        return outcome_rate([read_outcome(row.outcome, row.off_language) for row in self.rows], outcome)

    def summary(self) -> str:
        """The refusal rate with its limits, the counts, and what else the judge said, in one line."""
        outcomes = [row.outcome for row in self.rows]
        counts = ", ".join(f"{n} {outcome}" for outcome, n in Counter(outcomes).most_common())
        rate = ""
        if "refusal" in outcomes or "compliance" in outcomes:
            refused = self.rate()
            rate = f"{refused.value:.0%} refusal [" + "{:.0%}, {:.0%}] ".format(*refused.wilson())
        rated = [row.harmful for row in self.rows if row.harmful is not None]
        harm = f"; {sum(rated)} of {len(rated)} rated harmful" if rated else ""
        off = sum(row.off_language is True for row in self.rows)
        return f"{rate}({counts}){harm}" + (f"; {off} in another language" if off else "")

    @cached_property
    def table(self) -> Table:
        """Prompt id, outcome, reason and attributes; no texts."""
        names = ("prompt_id", "outcome", "reason", "harmful", "lang", "off_language", "truncated")
        return Table([{name: getattr(row, name) for name in names} for row in self.rows])

    def to_pandas(self) -> pd.DataFrame:
        return self.table.to_pandas()


class Sample(Result):
    """Completions that were drawn for people."""

    kind = "sample"
