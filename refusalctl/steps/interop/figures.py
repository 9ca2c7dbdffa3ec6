"""The measured numbers of an artifact by name, for trackers of experiments. What was not measured has no entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from refusalctl.errors import BadInput
from refusalctl.interop.tracking import Figures
from refusalctl.records.transfer import TransferCell
from refusalctl.stats.outcomes import READ_OUTCOMES, read_outcome
from refusalctl.steps.labelling.labels import read_labels
from refusalctl.steps.selection.scores import read_choice
from refusalctl.steps.transfer import read_transfer
from refusalctl.store.hashing import short
from refusalctl.store.store import Artifact

Named = Iterator[tuple[str, float | None]]


def figures_of(artifact: Artifact) -> Figures:
    """Labels: counts and rates; a selection: its scores; a transfer: counts, rates and moves of every cell.

    Raises `BadInput` for a kind that holds no figures of its own.
    """
    readers = {"labels": _labels, "selection": _selection, "transfer": _transfer}
    if artifact.kind not in readers:
        raise BadInput(f"{artifact.label} is {artifact.kind}, expected {', '.join(readers)}")
    known = {name: float(value) for name, value in readers[artifact.kind](artifact) if value is not None}
    params = {k: str(v)[:500] for k, v in artifact.about.items() if v is not None}
    tags = {"refusalctl.kind": artifact.kind, "refusalctl.artifact": artifact.id}
    return Figures(f"{artifact.kind}-{short(artifact.id)}", known, params, tags)


def _labels(artifact: Artifact) -> Named:
    counts = Counter(read_outcome(row.outcome, row.off_language) for row in read_labels(artifact))
    labelled = sum(n for outcome, n in counts.items() if outcome != "unparsed")
    yield "n", sum(counts.values())
    for outcome in READ_OUTCOMES:
        yield f"{outcome}.count", counts[outcome]
        yield f"{outcome}.rate", counts[outcome] / labelled if labelled and outcome != "unparsed" else None


def _selection(artifact: Artifact) -> Named:
    table = read_choice(artifact)
    place = _place(artifact)
    yield from (("layer", place[1]), ("position", place[0]))
    scored = table.at(place)
    if scored is not None:
        yield from (("bypass", scored.bypass), ("induce", scored.induce), ("kl", scored.kl))
    if table.reliability is not None:
        yield "reliability", table.reliability.full


def _place(artifact: Artifact) -> tuple[int, int]:
    from refusalctl.store import formats

    _tensors, header = formats.read_vectors(artifact.path / formats.VECTOR_FILES["selection"], "selection")
    return int(header["pos"]), int(header["layer"])


def _transfer(artifact: Artifact) -> Named:
    record = read_transfer(artifact)
    for cell in (*record.cells, *record.harmless.values()):
        yield from _cell(cell)
    for lang, facts in record.targets.items():
        yield f"target.{lang}.detectable", facts.detectable


def _cell(cell: TransferCell) -> Named:
    name = _plain(f"{cell.prompts}.{cell.key}")
    yield f"{name}.n", cell.n
    for rate in ("refusal", "compliance", "degenerate"):
        found: Any = getattr(cell, rate)
        if found is not None:
            yield f"{name}.{rate}", found.value
            yield f"{name}.{rate}.low95", found.interval95[0]
            yield f"{name}.{rate}.high95", found.interval95[1]
    if cell.flips is not None:
        yield f"{name}.removed", cell.flips.removed
        yield f"{name}.gained", cell.flips.gained
        yield f"{name}.net", cell.flips.net


def _plain(text: str) -> str:
    """A name that trackers take: they know letters, digits, `_`, `-`, `.`, `/`."""
    return text.replace(">", "-to-").replace("#", "-").replace("@", "-").replace(":", ".")
