"""Published figures, transcribed with their sources, to lay beside one's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from refusalctl.errors import DataError

_PATH = Path(__file__).with_name("published_rates.json")


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


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    ids: tuple[str, ...]
    compliance: dict[str, Figures]
    harmful: dict[str, Figures] | None = None


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    title: str
    source: str
    how: str
    error: float
    n: int | None
    judge: str
    models: dict[str, _Model]


class _Work(msgspec.Struct, forbid_unknown_fields=True):
    cite: str
    repository: str
    commit: str


class _Rerun(msgspec.Struct, forbid_unknown_fields=True):
    points: float
    why: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """`published_rates.json`, as it lies beside this module."""

    format: Literal["refusalctl.published"]
    version: Literal[1]
    work: _Work
    rerun: _Rerun
    tables: tuple[_Table, ...]


@cache
def work() -> PublishedWork:
    """Raises `DataError` for a file of another format or version."""
    try:
        found = msgspec.json.decode(_PATH.read_bytes(), type=_File)
    except msgspec.ValidationError as error:
        raise DataError(f"{_PATH.name}: {error}") from error
    rows = tuple(_rates(table, name, rates) for table in found.tables for name, rates in table.models.items())
    cited = found.work
    return PublishedWork(cited.cite, cited.repository, cited.commit, found.rerun.points, found.rerun.why, rows)


def _rates(table: _Table, name: str, found: _Model) -> PublishedRates:
    return PublishedRates(
        table.id,
        table.title,
        table.source,
        table.how,
        table.error,
        table.n,
        table.judge,
        name,
        found.ids,
        found.compliance,
        found.harmful,
    )
