"""`extract`: activations to candidate directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from refusalctl.errors import BadInput
from refusalctl.json_types import JsonObject
from refusalctl.records.rows import Kind
from refusalctl.records.selection import SplitHalf
from refusalctl.stats.similarity import LabelledActivations, direction, halved, halves, reliability, spearman_brown
from refusalctl.steps.activations import ACTIVATIONS_FILE, collect_activations, open_collected
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Job, RunChecks, Step, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Artifact

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from refusalctl.stats.similarity import Draws

DIRECTIONS_FILE = formats.VECTOR_FILES["directions"]
KINDS: tuple[Kind, ...] = ("harmful", "harmless")

SPLITS = 20
SPLIT_SEED = 0


class DirectionsHeader(msgspec.Struct, frozen=True):
    """What a file of candidates says of itself: its first axis' positions, the prompts' end tokens, and how many
    random halves stand behind `split_half` (0: imported, nothing is known of them)."""

    positions: list[int]
    suffix_tokens: list[str]
    splits: int


def read_directions(artifact: Artifact) -> tuple[dict[str, torch.Tensor], DirectionsHeader]:
    """Candidates and what belongs to them, by name. Raises `Corrupt` for a truncated or foreign file."""
    path = artifact.path / DIRECTIONS_FILE
    tensors, header = formats.read_vectors(path, "directions")
    return tensors, formats.as_header(path, header, DirectionsHeader)


def _run(job: Job) -> RunChecks:
    from refusalctl.stats.difference_in_means import difference_in_means, mean_of

    headers, means = {}, {}
    for kind in KINDS:
        path = job.inputs[kind].path / ACTIVATIONS_FILE
        with open_collected(job.inputs[kind]) as (_data, header):
            headers[kind] = header
        means[kind] = mean_of(formats.activation_batches(path, len(header.positions)))
    if headers["harmful"].positions != headers["harmless"].positions:
        raise BadInput("harmful and harmless activations were collected at different positions")
    candidates = difference_in_means(means["harmful"], means["harmless"])
    header = headers["harmful"]
    about: JsonObject = {"positions": header.positions, "suffix_tokens": header.suffix_tokens}
    half = _split_half(job, [tuple(headers[k].prompt_ids) for k in KINDS], len(header.positions))
    tensors = {"candidates": candidates, **{f"mean_{k}": m.float() for k, m in means.items()}, "split_half": half}
    formats.write_vectors(job.out / DIRECTIONS_FILE, "directions", tensors, about | {"splits": SPLITS})
    counts = {f"n_{k}": len(headers[k].prompt_ids) for k in KINDS}
    known = half[~half.isnan()]
    spread = {"min": float(known.min()), "median": float(known.median())} if len(known) else None
    return counts | {"split_half_cosine": spread}


def _split_half(job: Job, ids: list[tuple[str, ...]], n_pos: int) -> torch.Tensor:
    """Mean cosine [n_pos, n_layers] of directions from random disjoint halves; NaN where there is no direction.

    Activations are read one position at a time.
    """
    import torch

    signs = np.repeat(np.array([1, -1], np.int8), [len(each) for each in ids])
    splits = halves(ids, SPLITS, np.random.default_rng(SPLIT_SEED))
    columns = []
    for pos in range(n_pos):
        parts = []
        for kind in KINDS:
            with formats.open_activations(job.inputs[kind].path / ACTIVATIONS_FILE) as (data, _header):
                parts.append(data[:, pos])
        rows = np.concatenate(parts)
        columns.append([_agreement(rows[:, layer], ids, signs, splits) for layer in range(rows.shape[1])])
    return torch.tensor(columns, dtype=torch.float32)


def _agreement(rows: NDArray[np.float32], ids: list[tuple[str, ...]], signs: NDArray[np.int8], splits: Draws) -> float:
    sample = LabelledActivations(rows, (*ids[0], *ids[1]), signs)
    if min(map(len, ids)) < 2 or direction(sample) is None:
        return float("nan")
    parts = halved(sample, splits)
    return float("nan") if parts is None else reliability(parts).half


def n_layers(artifact: Artifact) -> int:
    tensors, _header = formats.read_vectors(artifact.path / DIRECTIONS_FILE, "directions")
    return int(tensors["candidates"].shape[1])


def split_half(artifact: Artifact) -> tuple[dict[tuple[int, int], float | None], int]:
    """Mean cosine between halves by (position, layer), None where there is no direction; over how many splits.

    No splits: the directions were imported, and nothing is known of their halves.
    """
    tensors, header = read_directions(artifact)
    found = {
        (pos, layer): None if cosine != cosine else cosine
        for pos, row in zip(header.positions, tensors["split_half"].tolist(), strict=True)
        for layer, cosine in enumerate(row)
    }
    return found, header.splits


def reliability_at(artifact: Artifact, pos: int, layer: int) -> SplitHalf:
    """How much of a candidate is its own train prompts."""
    tensors, header = read_directions(artifact)
    half = float(tensors["split_half"][header.positions.index(pos), layer])
    if half != half:
        return SplitHalf(None, None, None, header.splits)
    full = spearman_brown(half)
    ceiling = None if full is None else full**0.5
    return SplitHalf(half, full, ceiling, header.splits)


EXTRACT = Step("extract", 2, "directions", _run)


def extract_directions(bench: Workbench, lang: str) -> Artifact:
    """Difference-in-means candidates of one language's train prompts, collected first where needed."""
    inputs: dict[str, Artifact] = {
        kind: collect_activations(bench, draw_prompts(bench, lang, kind, "train")) for kind in KINDS
    }
    about = {
        "model": bench.ref.name,
        "revision": bench.ref.revision,
        "lang": lang,
        "data": bench.settings.prompts.data,
        "method": "difference-in-means",
    }
    about |= {f"n_{k}": a.about["n"] for k, a in inputs.items()}
    return bench.obtain(EXTRACT, {"method": "difference-in-means"}, inputs, about)
