"""What a study gives back: one object per kind of artifact, with tensors, tables and lineage.

Every result knows its artifact (`id`, `path`, `about`) and what it was made from (`lineage`). Tensors are
memory-mapped, tables come as rows and, for those who ask, as pandas. A notebook shows them as tables; no text of a
prompt or an answer is ever part of what is shown.
"""

from __future__ import annotations

import webbrowser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from refusalctl.errors import BadInput
from refusalctl.store import formats
from refusalctl.store.hashing import short

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from refusalctl.records.correction import JudgeCorrection
    from refusalctl.records.geometry import LanguagePair, Sites
    from refusalctl.records.panel import LanguagePanel
    from refusalctl.records.rows import Completion, Label, Prompt
    from refusalctl.stats.rates import Rate
    from refusalctl.store.store import Artifact, Store

Row = Mapping[str, object]


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

    def __getitem__(self, index: Any) -> Any:
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
    def recipe(self) -> dict[str, Any]:
        """What was asked: step, parameters, inputs, and the model where one ran."""
        found: dict[str, Any] = self.artifact.manifest["recipe"]
        return found

    @cached_property
    def lineage(self) -> dict[str, Result]:
        """What it was computed from, by role."""
        kinds = {identifier: kind for kind, identifier in self.store.ids()}
        return {
            role: result(self.store, self.store.open(kinds[identifier], identifier))
            for role, identifier in self.artifact.inputs.items()
            if identifier in kinds
        }

    def check(self) -> None:
        """Hash every payload file again. Raises `Corrupt` naming the first that differs."""
        self.store.check(self.artifact)

    def words(self) -> list[str]:
        """What it found, in a few lines; none for kinds that hold no finding."""
        from refusalctl.report.artifact_words import described

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


class Prompts(Result):
    """The drawn prompts of one language, class and split. `rows` holds their texts: treat them with care."""

    kind = "prompts"

    @cached_property
    def rows(self) -> list[Prompt]:
        from refusalctl.steps.prompts import read_prompts

        return read_prompts(self.artifact)

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.rows]

    def __len__(self) -> int:
        return int(self.about["n"])


class Activations(Result):
    """`resid_pre` of every prompt at every layer."""

    kind = "activations"

    @cached_property
    def resid_pre(self) -> NDArray[np.float32]:
        """[n_prompts, n_pos + 1, n_layers, d_model], float32, memory-mapped; the last position is the last instruction
        token."""
        return formats.map_activations(self.path / "activations.h5")

    @cached_property
    def header(self) -> dict[str, Any]:
        with formats.open_activations(self.path / "activations.h5") as (_data, header):
            return header

    @property
    def positions(self) -> list[int]:
        """End-of-instruction positions, in the order of the second axis."""
        return list(self.header["positions"])

    @property
    def prompt_ids(self) -> list[str]:
        return list(self.header["prompt_ids"])


class Vectors(Result):
    """Something that holds directions as safetensors."""

    @cached_property
    def _opened(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return formats.read_vectors(self.path / formats.VECTOR_FILES[self.kind], self.kind)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor by name, memory-mapped."""
        return self._opened[0]

    @property
    def lang(self) -> str:
        """Language of the prompts that the directions were extracted from."""
        return str(self.about["lang"])


class Directions(Vectors):
    """Difference-in-means candidates of one language."""

    kind = "directions"

    @property
    def candidates(self) -> torch.Tensor:
        """[n_pos, n_layers, d_model], float32; points from harmless to harmful, not normalised."""
        return self.tensors["candidates"]

    @property
    def positions(self) -> list[int]:
        return list(self._opened[1]["positions"])

    def at(self, pos: int, layer: int) -> torch.Tensor:
        """One candidate [d_model]. Raises `BadInput` for a position that was not collected."""
        if pos not in self.positions:
            raise BadInput(f"there is no candidate at position {pos}", hint=f"positions {self.positions}")
        return self.candidates[self.positions.index(pos), layer]


class Scores(Result):
    """Scores of every candidate on validation prompts."""

    kind = "scores"


class Selection(Vectors):
    """The chosen direction of one language, with the scores of every candidate."""

    kind = "selection"

    @property
    def vector(self) -> torch.Tensor:
        """[d_model], float32; points from harmless to harmful, not normalised."""
        return self.tensors["direction"]

    @property
    def pos(self) -> int:
        return int(self._opened[1]["pos"])

    @property
    def layer(self) -> int:
        return int(self._opened[1]["layer"])

    @cached_property
    def table(self) -> Any:
        """The score table as a record: candidates, stability, reliability, both criteria's choices."""
        from refusalctl.steps.selection.scores import read_scores

        return read_scores(self.artifact)

    @cached_property
    def scores(self) -> Table:
        """Mean bypass, induce (log-odds) and KL (nats) of every candidate; empty where it was not scored."""
        from refusalctl.report.selection_words import score_rows

        return Table(score_rows(self.artifact))

    @property
    def reliability(self) -> Any:
        """Split-half cosine, reliability for all prompts, and the noise ceiling of its cosine to anything."""
        return self.table.reliability


class Subspace(Vectors):
    """Several directions of one language, orthonormal."""

    kind = "subspace"

    @property
    def basis(self) -> torch.Tensor:
        """[rank, d_model], float32, orthonormal rows."""
        return self.tensors["basis"]


class ControlDirections(Vectors):
    """Directions of one source that should do nothing, by family."""

    kind = "control_directions"


class Completions(Result):
    """Greedy answers under one intervention. `rows` holds texts that may be harmful."""

    kind = "completions"

    @cached_property
    def rows(self) -> list[Completion]:
        from refusalctl.steps.completions import read_completions

        return read_completions(self.artifact)

    @property
    def checks(self) -> dict[str, Any]:
        """What was measured while they were written: hooks fired, projection left at every block."""
        found: dict[str, Any] = self.store.run_info(self.artifact)["checks"]
        return found

    def __len__(self) -> int:
        return int(self.about["n"])


class Translations(Result):
    """Completions in English, or why there is none."""

    kind = "translations"

    def summary(self) -> str:
        """How many were translated, and why the others were not."""
        from refusalctl.steps.labelling.translations import read_translations

        rows = read_translations(self.artifact)
        failed = Counter(row.failed for row in rows if row.failed)
        why = f" ({', '.join(f'{n} {reason}' for reason, n in failed.most_common())})" if failed else ""
        return f"{len(rows) - failed.total()} of {len(rows)} translated{why}"


class Labels(Result):
    """One label per completion, by one judge."""

    kind = "labels"

    @cached_property
    def rows(self) -> list[Label]:
        from refusalctl.steps.labelling.labels import read_labels

        return read_labels(self.artifact)

    @property
    def counts(self) -> dict[str, int]:
        """How many completions have which outcome."""
        return dict(Counter(row.outcome for row in self.rows))

    def rate(self, outcome: str = "refusal") -> Rate:
        """Share of labelled completions, with `wilson()`. Raises `BadInput` where none is labelled."""
        from refusalctl.stats.rates import outcome_rate

        return outcome_rate([row.outcome for row in self.rows], outcome)

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


class Transfer(Result):
    """Every source in every target: rates, removals and verdicts."""

    kind = "transfer"

    @cached_property
    def record(self) -> Any:
        """The whole matrix as a record; docs/formats/transfer.json is its schema."""
        from refusalctl.steps.transfer import read_transfer

        return read_transfer(self.artifact)

    @cached_property
    def cells(self) -> Table:
        """One row per target, source and condition: counts, what was removed with its limits, and the verdict."""
        from refusalctl.report.transfer_words import cell_rows

        return Table(cell_rows(self.artifact))

    def verdict(self, source: str, target: str, question: str = "removal") -> str | None:
        """One of the five verdicts; None where the cell was not measured."""
        from refusalctl.report.transfer_words import verdict_of

        return verdict_of(self.artifact, source, target, question)

    @cached_property
    def matrix(self) -> Table:
        """Sources down, targets across, a verdict in each cell."""
        targets = str(self.about["targets"]).split(",")
        sources = list(dict.fromkeys((*str(self.about["sources"]).split(","), *targets)))
        return Table([{"from": s} | {t: self.verdict(s, t) for t in targets} for s in sources])

    def sentences(self) -> list[str]:
        """One sentence per target: baseline, each direction's verdict with its reason, what n can show."""
        from refusalctl.report.transfer_words import sentences

        return sentences(self.artifact)

    def to_pandas(self) -> pd.DataFrame:
        return self.cells.to_pandas()

    def words(self) -> list[str]:
        return self.sentences()

    def _repr_html_(self) -> str:
        return super()._repr_html_() if self.planned else self.matrix._repr_html_() + super()._repr_html_()


class Report(Result):
    """One self-contained page with its figures and tables."""

    kind = "report"

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    def in_format(self, kind: str) -> list[Path]:
        """Files in one format: html, md, csv, latex, json, png, svg or pdf. Raises `BadInput` for another."""
        from refusalctl.report.report import files_of

        return files_of(self.artifact, kind)

    @property
    def files(self) -> list[Path]:
        return [self.path / name for name in self.artifact.manifest["files"]]

    def open(self) -> bool:
        """Show the page in a browser. False where none could be started."""
        return webbrowser.open(self.page.resolve().as_uri())


class Record(Result):
    """A result whose payload is one record, read by attribute."""

    @cached_property
    def record(self) -> Any:
        return READERS[self.kind](self.artifact)


class Openings(Record):
    """How refusals open in one language, and whether that was confirmed on other prompts."""

    kind = "openings"


class Cosmic(Record):
    """COSMIC's cosines of every candidate."""

    kind = "cosmic"


class Controls(Record):
    """What control directions do in one cell, beside the real direction."""

    kind = "controls"


class Comprehension(Record):
    """Whether the model tells harmful from harmless prompts in one language."""

    kind = "comprehension"


class Geometry(Record):
    """How alike the languages' directions are, beside their noise ceiling and chance."""

    kind = "geometry"

    @property
    def sites(self) -> Sites:
        """What was measured where the refusal direction is read, and where harmfulness is."""
        from refusalctl.steps.geometry import read_geometry

        return read_geometry(self.artifact).sites

    @property
    def pos(self) -> int:
        return self.sites.refusal.pos

    @property
    def layer(self) -> int:
        return self.sites.refusal.layer

    @property
    def pairs(self) -> tuple[LanguagePair, ...]:
        """Every pair of languages at the refusal place: cosine, ceiling, chance."""
        return self.sites.refusal.pairs


class Panel(Record):
    """Agreement of several judges."""

    kind = "panel"

    @property
    def languages(self) -> dict[str, LanguagePanel]:
        """Agreement and votes per language."""
        from refusalctl.steps.labelling.panel import read_panel

        return read_panel(self.artifact).languages


class Correction(Record):
    """A judge's rates, corrected by people's labels."""

    kind = "correction"

    @property
    def judges(self) -> tuple[JudgeCorrection, ...]:
        """Per language and judge: sensitivity, specificity, and rates with their corrections."""
        from refusalctl.steps.labelling.correction import read_correction

        return read_correction(self.artifact).judges


class Calibration(Record):
    """Verdicts on model organisms beside their known truth."""

    kind = "calibration"


class Sample(Result):
    """Completions that were drawn for people."""

    kind = "sample"


READERS: dict[str, Any] = {}
RESULTS: dict[str, type[Result]] = {
    each.kind: each
    for each in (
        Prompts, Activations, Directions, Openings, Scores, Cosmic, Selection, Subspace, ControlDirections, Controls,
        Comprehension, Completions, Translations, Labels, Panel, Sample, Correction, Geometry, Transfer, Calibration,
        Report,
    )
}  # fmt: skip


def result(store: Store, artifact: Artifact) -> Result:
    """The artifact as the object of its kind."""
    return RESULTS[artifact.kind](store, artifact)
