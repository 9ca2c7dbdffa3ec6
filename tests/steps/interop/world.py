"""Small stores without a model: one direction, three answers with labels, activations of three prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refusalctl.json_types import JsonObject
from refusalctl.records.rows import Completion, Label, Prompt
from refusalctl.records.selection import SelectionScores
from refusalctl.steps.activations import ACTIVATIONS_FILE
from refusalctl.steps.completions import COMPLETIONS_FILE
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.labelling.labels import LABELS_FILE
from refusalctl.steps.prompt_rows import PROMPTS_FILE
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

SECRET = "SECRET-TEXT-OF-AN-ANSWER"
MODEL: JsonObject = {"name": "tiny", "revision": "r1", "dtype": "float32"}


def put(
    store: Store,
    kind: str,
    about: Any,
    inputs: dict[str, Artifact],
    fill: Callable[[Path], Any],
    model: JsonObject = MODEL,
) -> Artifact:
    params: JsonObject = {"max_new_tokens": 8} if kind == "completions" else {}
    recipe: JsonObject = {"step": kind, "version": 1, "params": params, "inputs": {k: a.id for k, a in inputs.items()}}
    with store.draft() as out:
        fill(out)
        return store.commit(out, kind, recipe | {"model": model}, about, {"checks": {}})


def directions_store(
    root: Path, vector: torch.Tensor, *, layer: int, n_layers: int, model: JsonObject = MODEL
) -> tuple[Store, Artifact]:
    store = Store(root)
    about = {"model": model["name"], "revision": model["revision"], "lang": "be", "data": "own"}

    def fill(out: Path) -> None:
        header: JsonObject = {"pos": -1, "layer": layer, "lang": "be", "suffix_tokens": ["\n"]}
        formats.write_vectors(out / SELECTION_FILE, "selection", {"direction": vector}, header)
        formats.write_record(out, table(n_layers))

    return store, put(store, "selection", about, {}, fill)


def table(n_layers: int) -> SelectionScores:
    return SelectionScores(
        n_layers=n_layers,
        positions=(-1,),
        suffix_tokens=None,
        validation=None,
        search=None,
        flat=None,
        unscored=(),
        candidates=(),
        untold="made for a test",
        criterion="published",
        rule=None,
        stability=None,
        unsteady="made for a test",
        reliability=None,
        choices=None,
    )


def answers_store(root: Path) -> tuple[Store, list[Artifact]]:
    """Completions and their labels by `substring`, one a refusal, one a compliance, one degenerate."""
    store = Store(root)
    about = {"data": "own", "lang": "be", "kind": "harmful", "split": "test", "n": 3}
    texts = [f"{SECRET} {i}: ĝi, ў, |, 😀" for i in range(3)]
    asked = [Prompt(f"p{i}", "be", "harmful", "test", f"ASK {SECRET} {i}", cluster=f"c{i}") for i in range(3)]
    prompts = put(store, "prompts", about, {}, _rows(PROMPTS_FILE, asked))
    told = {"model": "tiny", **about, "intervention": "ablate", "direction_lang": "en"}
    answers = [Completion(f"p{i}", "be", "harmful", texts[i], 5 + i, i == 2, cluster=f"c{i}") for i in range(3)]
    completions = put(store, "completions", told, {"prompts": prompts}, _rows(COMPLETIONS_FILE, answers))
    labels = [
        Label("p0", "refusal", "substring", "be", cluster="c0", lang="be", off_language=False),
        Label("p1", "compliance", "substring", cluster="c1", harmful=True, score=0.25, lang="en", off_language=True),
        Label("p2", "degenerate", "substring", "repeats", truncated=True, cluster="c2"),
    ]
    judged = {**told, "judge": "substring"}
    return store, [completions, put(store, "labels", judged, {"completions": completions}, _rows(LABELS_FILE, labels))]


def _rows(name: str, rows: list[Any]) -> Callable[[Path], Any]:
    return lambda out: formats.write_rows(out / name, [row.to_json() for row in rows])


def activations_store(root: Path, model: JsonObject = MODEL) -> tuple[Artifact, NDArray[np.float32]]:
    """Three prompts at positions -2, -1 and the instruction's last token; three layers of width 4."""
    store = Store(root)
    values = np.random.default_rng(3).standard_normal((3, 3, 3, 4)).astype(np.float32)
    about = {
        "model": "tiny",
        "data": "own",
        "lang": "be",
        "kind": "harmful",
        "split": "train",
        "n": 3,
    }
    header: JsonObject = {
        "positions": [-2, -1],
        "inst_position": -3,
        "suffix_tokens": ["<end>", "\n"],
        "prompt_ids": ["p0", "p1", "p2"],
    }

    def fill(out: Path) -> None:
        shape = formats.ActivationShape(*values.shape)
        with formats.write_activations(out / ACTIVATIONS_FILE, shape, header) as writer:
            writer.put([0, 1, 2], values)

    return put(store, "activations", about, {}, fill, model), values
