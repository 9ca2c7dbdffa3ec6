"""`collect`: prompts to `resid_pre` at the end-of-instruction positions and the last instruction token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from refusalctl.errors import Corrupt
from refusalctl.json_types import JsonObject
from refusalctl.progress import batches
from refusalctl.steps.asking import encode
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.foresight import chosen_positions, end_of_instruction
from refusalctl.steps.prompt_rows import read_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

ACTIVATIONS_FILE = "activations.h5"


class ActivationHeader(msgspec.Struct, frozen=True):
    """What an activation file says of itself: its axes' positions, the prompts' end tokens, and the prompts."""

    positions: list[int]
    inst_position: int
    suffix_tokens: list[str]
    prompt_ids: list[str]


@contextmanager
def open_collected(artifact: Artifact) -> Iterator[tuple[formats.Rows, ActivationHeader]]:
    """The rows, read lazily, and what they are. Raises `Corrupt` for a truncated or foreign file."""
    path = artifact.path / ACTIVATIONS_FILE
    with formats.open_activations(path) as (rows, header):
        yield rows, formats.as_header(path, header, ActivationHeader)


def _run(job: Job) -> RunChecks:
    from refusalctl.model.forward import activations as forward_activations

    model = job.bench.model
    rows = read_prompts(job.inputs["prompts"])
    positions = chosen_positions(model.chat.positions, job.params["positions"])
    columns = [*positions, model.chat.inst_position]
    shape = formats.ActivationShape(len(rows), len(columns), model.residual.n_layers, model.residual.d_model)
    about: JsonObject = {
        "positions": positions,
        "inst_position": model.chat.inst_position,
        "suffix_tokens": model.chat.suffix_tokens(),
        "prompt_ids": [row.id for row in rows],
    }
    lang = job.inputs["prompts"].about["lang"]
    kind = job.inputs["prompts"].about["kind"]
    path, noted = job.partial / ACTIVATIONS_FILE, FinishedRows(job.partial, "batches.jsonl")
    there = _batches_there(path, noted)
    done = frozenset(index for batch in there for index in batch)

    def finished(indices: list[int], sha256: str) -> None:
        noted.add({"indices": indices, "sha256": sha256})

    kept = formats.KeptBatches(there, finished)
    with (
        batches(job.bench.progress, f"collect {lang} {kind}", len(rows)) as advance,
        formats.write_activations(path, shape, about, kept) as writer,
    ):
        advance(len(done))
        encoded = encode(job, rows)
        for indices, batch in forward_activations(model, encoded, columns, job.bench.machine.batch_size, done):
            writer.put(indices, batch.numpy())
            advance(len(done.union(indices)) - len(done))
    path.replace(job.out / ACTIVATIONS_FILE)
    return {"n": len(rows), "longest_prompt_tokens": max(map(len, encoded)), "resumed": len(done)}


def _batches_there(path: Path, noted: FinishedRows) -> list[list[int]]:
    """Prompts of the batches that an interrupted run wrote, as far as they lie there as they were written."""
    if not len(noted):
        return []
    found: list[list[int]] = []
    try:
        rows = formats.map_activations(path)
        for row in noted:
            if formats.rows_digest(rows[row["indices"]]) == row["sha256"]:
                found.append(row["indices"])
    except (Corrupt, OSError, IndexError):
        return []
    return found


COLLECT = Step("collect", 1, "activations", _run, uses_model=True)


def collect_activations(bench: Workbench, prompts: Artifact) -> Artifact:
    """Every prompt's `resid_pre` at every layer. `positions` None means all end-of-instruction positions."""
    about = {"model": bench.ref.name, **prompts.about}
    wanted = sorted(bench.settings.selection.positions) if bench.settings.selection.positions is not None else None
    if bench.dry_run and wanted is not None:
        end_of_instruction(bench, wanted)
    return bench.obtain(COLLECT, {"positions": wanted}, {"prompts": prompts}, about)
