"""What all results have in common: an artifact, its lineage, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

from refusalctl.errors import NotFound
from refusalctl.json_types import JsonObject
from refusalctl.report.artifact_words import described
from refusalctl.store.hashing import short

if TYPE_CHECKING:
    import pandas as pd

    from refusalctl.store.store import Artifact, Store

Row = Mapping[str, object]
RESULTS: dict[str, type[Result]] = {}  # by artifact kind


class Table(Sequence[Row]):
    """Rows with the same columns. `to_pandas()` for everything else."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def to_pandas(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self.rows, columns=self.columns)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __repr__(self) -> str:
        widths = {c: max(len(c), *(len(_cell(row.get(c))) for row in self.rows), 0) for c in self.columns}
        lines = ["  ".join(c.ljust(widths[c]) for c in self.columns)]
        lines += ["  ".join(_cell(row.get(c)).ljust(widths[c]) for c in self.columns) for row in self.rows]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(c)}</th>" for c in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(row.get(c)))}</td>" for c in self.columns) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    """A value as text; what was not measured is empty."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Result:
    """One artifact of a store, opened. Two results are equal if their artifacts are."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls, **rest: object) -> None:
        super().__init_subclass__(**rest)
        if cls.kind and "kind" in vars(cls):
            RESULTS[cls.kind] = cls

    def __init__(self, store: Store, artifact: Artifact) -> None:
        self.store, self.artifact = store, artifact

    @property
    def id(self) -> str:
        return self.artifact.id

    @property
    def path(self) -> Path:
        """The artifact's folder."""
        return self.artifact.path

    @property
    def about(self) -> dict[str, Any]:
        """What a person calls it by: model, language, prompt class, counts."""
        return self.artifact.about

    @property
    def planned(self) -> bool:
        """Whether this stands for something that a dry run only planned: it then has no content."""
        return self.artifact.planned

    @property
    def lost(self) -> bool:
        """Whether the store no longer has it: something was made from it, and nothing but its id is known."""
        return False

    @property
    def recipe(self) -> JsonObject:
        """What was asked: step, parameters, inputs, and the model where one ran."""
        found: JsonObject = self.artifact.manifest["recipe"]
        return found

    @cached_property
    def lineage(self) -> dict[str, Result]:
        """What it was computed from, by role; what the store has lost is there as a `Lost`."""
        kinds = {identifier: kind for kind, identifier in self.store.ids()}
        return {
            role: result(self.store, self.store.open(kinds[identifier], identifier))
            if identifier in kinds
            else Lost(self.store, identifier)
            for role, identifier in self.artifact.inputs.items()
        }

    def check(self) -> None:
        """Hash every payload file again. Raises `Corrupt` naming the first that differs."""
        self.store.check(self.artifact)

    def words(self) -> list[str]:
        """What it found, in a few lines; none for kinds that hold no finding."""
        return described(self.artifact)

    def facts(self) -> dict[str, object]:
        """What the notebook shows first."""
        return {"id": short(self.id), **{k: v for k, v in self.about.items() if v is not None}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and other.artifact.id == self.artifact.id

    def __hash__(self) -> int:
        return hash(self.artifact.id)

    def __repr__(self) -> str:
        told = " ".join(f"{k}={v}" for k, v in self.facts().items())
        return f"<{type(self).__name__} {told}{' planned' if self.planned else ''}>"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in self.facts().items())
        lines = "".join(f"<li>{escape(line)}</li>" for line in ([] if self.planned else self.words()))
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>" + (f"<ul>{lines}</ul>" if lines else "")


class Lost(Result):
    """An input that the store no longer has: its id, and nothing else; `check` raises `NotFound`."""

    def __init__(self, store: Store, identifier: str) -> None:
        from refusalctl.store.artifact import Artifact

        manifest: dict[str, Any] = {"recipe": {"inputs": {}}, "about": {}, "files": {}}
        super().__init__(store, Artifact("lost", identifier, store.root / "lost" / identifier, manifest))

    @property
    def lost(self) -> bool:
        return True

    def check(self) -> None:
        raise NotFound(f"{short(self.id)} is not in the store {self.store.root} any more", hint="run its step again")

    def words(self) -> list[str]:
        return ["not in the store any more"]


def result(store: Store, artifact: Artifact) -> Result:
    """The artifact as the object of its kind."""
    return RESULTS[artifact.kind](store, artifact)
