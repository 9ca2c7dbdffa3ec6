"""Published figures, transcribed with their sources, to lay beside one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from refusalctl.errors import DataError

_FILE = Path(__file__).with_name("published_rates.json")


class Figures(NamedTuple):
    """Two rates of one language, as shares: without intervention, and with the direction ablated."""

    before: float
    after: float


@dataclass(frozen=True)
class PublishedRates:
    """One model of one published table. `error`: how far a value may be off by the way it was read.

    `ids`: hub ids that we take the published name to mean; the tables name no revision. `harmful`: share judged so.
    """

    table: str
    title: str
    source: str
    how: str
    error: float
    n: int | None
    judge: str
    model: str
    ids: tuple[str, ...]
    compliance: dict[str, Figures]
    harmful: dict[str, Figures] | None = None


@dataclass(frozen=True)
class PublishedWork:
    """The published work: how to cite it, and how far reruns of one model lie apart there."""

    cite: str
    repository: str
    commit: str
    rerun: float
    rerun_why: str
    rows: tuple[PublishedRates, ...]

    def of(self, model: str, sources: list[str]) -> list[PublishedRates]:
        """Tables of this model under directions from these languages."""
        known = model.split("@")[0].lower()
        return [r for r in self.rows if r.source in sources and known in (i.lower() for i in r.ids)]


@cache
def work() -> PublishedWork:
    """Raises `DataError` for a file of another format or version."""
    raw: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    if (raw.get("format"), raw.get("version")) != ("refusalctl.published", 1):
        raise DataError(f"{_FILE.name} is {raw.get('format')} version {raw.get('version')}, expected version 1")
    rows = [_row(table, name, found) for table in raw["tables"] for name, found in table["models"].items()]
    return PublishedWork(**raw["work"], rerun=raw["rerun"]["points"], rerun_why=raw["rerun"]["why"], rows=tuple(rows))


def _row(table: dict[str, Any], model: str, found: dict[str, Any]) -> PublishedRates:
    told = {k: table[k] for k in ("title", "source", "how", "error", "n", "judge")}
    rates: dict[str, Any] = {
        k: {lang: Figures(*pair) for lang, pair in found[k].items()} for k in ("compliance", "harmful") if k in found
    }
    return PublishedRates(table=table["id"], model=model, ids=tuple(found["ids"]), **rates, **told)
