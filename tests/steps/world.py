"""A store with everything that a report is made of, without a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refusalctl.model.files.resolve import ModelRef
from refusalctl.records.cell import Cell, Condition
from refusalctl.records.rows import Completion, Label
from refusalctl.records.selection import (
    ByClass,
    ScoredCandidate,
    SelectionScores,
    SplitHalf,
    Stability,
    ValidationPrompts,
)
from refusalctl.records.transfer import Transfer
from refusalctl.settings import Machine, Settings
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.steps.activations import COLLECT
from refusalctl.steps.completions import COMPLETE, COMPLETIONS_FILE
from refusalctl.steps.directions import EXTRACT
from refusalctl.steps.input_names import named
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.labelling.labels import JUDGE, LABELS_FILE
from refusalctl.steps.prompts import DRAW
from refusalctl.steps.selection.openings import OPENINGS
from refusalctl.steps.selection.scores import SELECT
from refusalctl.steps.step import Step, Workbench
from refusalctl.steps.transfer import TRANSFER, CellAnswers, Selections, assemble_transfer
from refusalctl.store import formats
from refusalctl.store.hashing import canonical
from refusalctl.store.store import Artifact, Store

EXPERIMENT = Settings.of(
    sources=("en", "ba"), targets=("en", "ba", "tg"), n_train=16, n_val=8, n_test=20, max_new_tokens=48
)
LETTERS = {"R": "refusal", "C": "compliance", "D": "degenerate", "U": "unparsed"}
LETTERS["O"] = "compliance"  # in another language than the prompt's
# one letter per prompt, in one order of prompts, so that flips can be counted by eye
HARMFUL = {
    ("en", None): "RRRRRRRRRRRRRRRRCCCC",
    ("en", "ba"): "RRRRRRRRRRCCCCCCCCCR",
    ("en", "en"): "CCCCCCCCCCCCCCCRCCCC",
    ("ba", None): "RRRRRRRRRRRRCCCCCCCU",
    ("ba", "en"): "CCCCCCCCCCRRCCCCCCRC",
    ("ba", "ba"): "DDDDDDDDCCCCCCCCCDDC",
    ("tg", None): "CCCCCCCCCCCCCCCCCCCC",
    ("tg", "en"): "CCCCCCCCCCCCCCCCCCCC",
    ("tg", "ba"): "RCCCCCCCCCCCCCCCCCCC",
}
HARMLESS = {"en": "CCCCCCCCCCCCCCCCCCCC", "ba": "RRCCCCCCCCCCCCCCCCCC", "tg": "CCCCCCCCCCCCCCCCCCCC"}
NO_DIRECTION = "none of 8 harmful validation prompts has a baseline refusal score > 0 (the best has -3.10)"
TOKENS = ["<|im_end|>", "\n", "<|im_start|>", "assistant", "\n"]
SECRET = "SECRET-TEXT-OF-A-PROMPT"

Write = Callable[[Path], Any]


class World:
    """A store with everything that a transfer over three languages is computed from."""

    def __init__(self, root: Path, model: str = "tiny-llama", text: str = SECRET, revision: str = "revision-1") -> None:
        self.bench = Workbench(Store(root), Machine("tiny", device="cpu"))
        self.bench.refs[self.bench.machine] = ModelRef(model, root, revision, "f" * 64)
        self.text = text

    def put(
        self, step: Step, params: Any, inputs: dict[str, Artifact], about: Any, write: dict[str, Write] | None = None
    ) -> Artifact:
        with self.bench.store.draft() as out:
            for name, make in (write or {"payload.bin": lambda p: p.write_text(SECRET)}).items():
                make(out / name)
            recipe = self.bench.recipe(step, params, inputs)
            return self.bench.store.commit(out, step.kind, recipe, about, {"checks": {}})

    def prompts(self, lang: str, kind: str, split: str, n: int) -> Artifact:
        ids = [f"{kind}-{split}-{i:02d}" for i in range(n)]
        about = {"data": "sample", "lang": lang, "kind": kind, "split": split, "n": n}
        return self.put(DRAW, {"lang": lang, "kind": kind, "ids": ids}, {}, about)

    def judged(self, source: Artifact, outcomes: str, direction: Artifact | None = None) -> tuple[Artifact, Artifact]:
        inputs = {"prompts": source} | ({"direction": direction} if direction else {})
        about = {"model": self.bench.ref.name, **source.about, "intervention": "ablate" if direction else "none"}
        ids = source.manifest["recipe"]["params"]["ids"]
        answers = [
            Completion(i, source.about["lang"], source.about["kind"], self.text, 3, False).to_json() for i in ids
        ]
        text: dict[str, Write] = {COMPLETIONS_FILE: lambda p: formats.write_rows(p, answers)}
        written = self.put(COMPLETE, {"max_new_tokens": 48}, inputs, about, text)
        rows = [
            Label(i, LETTERS[o], "substring", off_language=o == "O").to_json()
            for i, o in zip(ids, outcomes, strict=True)
        ]
        params = {"judge": "substring"}
        file = {LABELS_FILE: lambda p: formats.write_rows(p, rows)}
        return written, self.put(JUDGE, params, {"completions": written}, {**about, "judge": "substring"}, file)

    def selection(self, lang: str, prompts_lang: str | None = None) -> Artifact:
        found = {}
        for kind in ("harmful", "harmless"):
            train = self.prompts(prompts_lang or lang, kind, "train", 16)
            found[kind] = self.put(COLLECT, {"positions": None}, {"prompts": train}, {**train.about})
        about = {"model": self.bench.ref.name, "lang": lang}
        inputs = {"directions": self.put(EXTRACT, {"for": lang}, found, about)}
        inputs["openings"] = self.put(OPENINGS, {"for": lang}, {}, about)
        inputs |= {f"val_{k}": self.prompts(lang, k, "val", 8) for k in ("harmful", "harmless")}
        write: dict[str, Write] = {
            SelectionScores.FILE: lambda p: formats.write_record(p.parent, score_table()),
            SELECTION_FILE: write_direction,
        }
        return self.put(SELECT, {"lang": lang}, inputs, about | {"rule": "arditi"}, write)

    def cells(self, chosen: dict[str, Artifact]) -> tuple[list[CellAnswers], dict[str, Artifact]]:
        tests = {t: self.prompts(t, "harmful", "test", 20) for t in EXPERIMENT.targets}
        cells = []
        for (target, source), outcomes in HARMFUL.items():
            condition: Condition = "baseline" if source is None else "native" if source == target else "transferred"
            answers = self.judged(tests[target], outcomes, chosen[source] if source else None)
            cells.append(CellAnswers(Cell(source, target, condition), *answers))
        calm = {t: self.judged(self.prompts(t, "harmless", "test", 20), o)[1] for t, o in HARMLESS.items()}
        return cells, calm

    def transfer(self, chosen: dict[str, Artifact], *, leave_out: str = "") -> Artifact:
        """What `measure_transfer` does once every input is there."""
        cells, calm = self.cells(chosen)
        cells = [each for each in cells if each.cell.key != leave_out]
        selections = Selections(chosen, {"tg": NO_DIRECTION})
        return assemble_transfer(self.bench.asking(EXPERIMENT), selections, cells, named("harmless", calm))

    def changed(self, matrix: Artifact, change: Callable[[dict[str, Any]], None]) -> Artifact:
        """The same transfer with another content, which need not fit the record."""
        value = json.loads((matrix.path / Transfer.FILE).read_bytes())
        change(value)
        inputs = {name: self.bench.store.open(*self.kind_of(i)) for name, i in matrix.inputs.items()}
        write: dict[str, Write] = {Transfer.FILE: lambda p: p.write_bytes(canonical(value))}
        return self.put(TRANSFER, {"changed": True}, inputs, dict(matrix.about), write)

    def kind_of(self, identifier: str) -> tuple[str, str]:
        return next((k, i) for k, i in self.bench.store.ids() if i == identifier)


def write_direction(path: Path) -> None:
    import torch

    formats.write_vectors(path, "selection", {"direction": torch.ones(4)}, {"pos": -1, "layer": 3})


def score_table() -> SelectionScores:
    def row(pos: int, layer: int) -> ScoredCandidate:
        depth = abs(layer - 3) + abs(pos + 1)
        return ScoredCandidate(pos, layer, -5.0 + depth, 2.5 - depth, 0.02 * 3**depth, None)

    baseline = ByClass((1.0,) * 8, (-1.0,) * 8)
    kept = ByClass((0, 1, 2, 3, 4), tuple(range(8)))
    return SelectionScores(
        n_layers=6,
        positions=(-5, -2, -1),
        suffix_tokens=tuple(TOKENS),
        validation=ValidationPrompts(ByClass(8, 8), True, baseline, kept),
        search="full",
        flat=(),
        unscored=(),
        candidates=tuple(row(pos, layer) for pos in (-5, -2, -1) for layer in range(6)),
        untold=None,
        criterion="refusal-score",
        rule=PRESETS["arditi"],
        stability=Stability(1000, {"-1,3": 0.812, "-1,2": 0.13}, 0.058),
        unsteady=None,
        reliability=SplitHalf(0.9, 0.95, 0.97, 20),
        choices=None,
    )
