"""How long a page takes to make and to open, and how big it is, for many languages and models.

Builds transfers of random outcomes: no model runs, every artifact goes through the steps' own code and the store.

    python -m benchmarks.report_page --out page --languages 17 --models 4 --n 572
    chromium --headless=new ... page/report.html   # see docs/report.md
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from refusalctl.data.languages import NAMES
from refusalctl.model.files.resolve import ModelRef
from refusalctl.records.cell import Cell, Condition
from refusalctl.records.rows import Label
from refusalctl.records.selection import (
    ByClass,
    ScoredCandidate,
    SelectionScores,
    SplitHalf,
    Stability,
    ValidationPrompts,
)
from refusalctl.report.make import make_report
from refusalctl.settings import Machine, Settings
from refusalctl.stats.selection_rule import PRESETS
from refusalctl.steps.activations import ACTIVATIONS_FILE, COLLECT
from refusalctl.steps.completions import COMPLETE
from refusalctl.steps.directions import EXTRACT
from refusalctl.steps.input_names import named
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.labelling.labels import JUDGE, LABELS_FILE
from refusalctl.steps.prompts import DRAW
from refusalctl.steps.selection.openings import OPENINGS
from refusalctl.steps.selection.scores import SELECT
from refusalctl.steps.step import Step, Workbench
from refusalctl.steps.transfer import CellAnswers, Selections, assemble_transfer
from refusalctl.store import formats
from refusalctl.store.store import Artifact, Store

POSITIONS, LAYERS, WIDTH, TRAIN = [-5, -4, -3, -2, -1], 28, 32, 24


@dataclass
class Maker:
    """One made-up model: artifacts with the recipes that the steps would give them."""

    bench: Workbench
    rng: np.random.Generator
    n: int
    langs: list[str]

    def put(self, step: Step, params: Any, inputs: dict[str, Artifact], about: Any, files: dict[str, Any]) -> Artifact:
        with self.bench.store.draft() as out:
            for name, write in files.items():
                write(out / name)
            recipe = self.bench.recipe(step, params, inputs)
            return self.bench.store.commit(out, step.kind, recipe, about, {"checks": {"max_relative_projection": 1e-6}})

    def prompts(self, lang: str, kind: str, split: str, n: int) -> Artifact:
        ids = [f"{kind}-{split}-{i:03d}" for i in range(n)]
        about = {"data": "polyrefuse", "lang": lang, "kind": kind, "split": split, "n": n}
        return self.put(DRAW, {"ids": ids, "lang": lang}, {}, about, {"made-up": lambda p: p.write_text(kind)})

    def judged(self, source: Artifact, refusing: float, direction: Artifact | None) -> tuple[Artifact, Artifact]:
        inputs = {"prompts": source} | ({"direction": direction} if direction else {})
        about = {"model": self.bench.ref.name, **source.about, "intervention": "ablate" if direction else "none"}
        text = {"made-up": lambda p: p.write_text("")}
        written = self.put(COMPLETE, {"max_new_tokens": 64}, inputs, about, text)
        shares = [refusing * 0.97, (1 - refusing) * 0.97, 0.03]
        outcomes = self.rng.choice(["refusal", "compliance", "degenerate"], size=source.about["n"], p=shares)
        ids = source.manifest["recipe"]["params"]["ids"]
        reasons = {"refusal": f"phrase:{source.about['lang']}", "compliance": "no refusal phrase", "degenerate": "loop"}
        rows = [Label(i, o, "substring", reasons[o]).to_json() for i, o in zip(ids, outcomes.tolist())]
        files = {LABELS_FILE: lambda p: formats.write_rows(p, rows)}
        return written, self.put(JUDGE, {}, {"completions": written}, {**about, "judge": "substring"}, files)

    def activations(self, source: Artifact, axis: int) -> Artifact:
        shape = formats.ActivationShape(TRAIN, len(POSITIONS) + 1, LAYERS, WIDTH)
        ids = source.manifest["recipe"]["params"]["ids"][:TRAIN]
        about = {"positions": POSITIONS, "inst_position": -6, "suffix_tokens": ["a"] * 5, "prompt_ids": ids}
        rows = self.rng.normal(size=shape).astype(np.float32)
        if source.about["kind"] == "harmful":
            rows[..., axis] += 2.5

        def write(path: Path) -> None:
            with formats.write_activations(path, shape, about) as writer:
                writer.put(list(range(TRAIN)), rows)

        return self.put(COLLECT, {}, {"prompts": source}, dict(source.about), {ACTIVATIONS_FILE: write})

    def selection(self, lang: str) -> Artifact:
        axis = int(self.rng.integers(3))
        found = {k: self.activations(self.prompts(lang, k, "train", TRAIN), axis) for k in ("harmful", "harmless")}
        about = {"model": self.bench.ref.name, "lang": lang}
        blank = {"made-up": lambda p: p.write_text(lang)}
        inputs = {"directions": self.put(EXTRACT, {}, found, about, blank)}
        inputs["openings"] = self.put(OPENINGS, {"lang": lang}, {}, about, blank)
        inputs |= {f"val_{k}": self.prompts(lang, k, "val", 32) for k in ("harmful", "harmless")}
        table = self.scores()
        files = {
            SelectionScores.FILE: lambda p: formats.write_record(p.parent, table),
            SELECTION_FILE: self.direction,
        }
        return self.put(SELECT, {"lang": lang}, inputs, about, files)

    def direction(self, path: Path) -> None:
        import torch

        formats.write_vectors(path, "selection", {"direction": torch.ones(WIDTH)}, {"pos": -1, "layer": 15})

    def scores(self) -> SelectionScores:
        bypass, induce, kl = self.rng.normal(-4, 2, (3, len(POSITIONS), LAYERS)).tolist()
        rows = tuple(
            ScoredCandidate(pos, layer, bypass[i][layer], induce[i][layer], abs(kl[i][layer]), None)
            for i, pos in enumerate(POSITIONS)
            for layer in range(22)
        )
        baseline: ByClass[tuple[float, ...]] = ByClass((1.0,) * 30 + (-0.5,) * 2, (-1.0,) * 32)
        kept = ByClass(tuple(range(30)), tuple(range(32)))
        return SelectionScores(
            n_layers=LAYERS,
            positions=tuple(POSITIONS),
            suffix_tokens=("<|im_end|>", "\n", "<|im_start|>", "assistant", "\n"),
            validation=ValidationPrompts(ByClass(32, 32), True, baseline, kept),
            search="full",
            flat=(),
            unscored=(),
            candidates=rows,
            untold=None,
            criterion="refusal-score",
            rule=PRESETS["arditi"],
            stability=Stability(1000, {"-1,15": 0.7}, 0.0),
            unsteady=None,
            reliability=SplitHalf(0.9, 0.95, 0.97, 20),
            choices=None,
        )

    def transfer(self) -> Artifact:
        experiment = Settings.of(sources=tuple(self.langs), targets=tuple(self.langs), data="polyrefuse", n_test=self.n)
        chosen = {lang: self.selection(lang) for lang in self.langs}
        cells, harmless = [], {}
        for target in self.langs:
            asked = self.prompts(target, "harmful", "test", self.n)
            base = float(self.rng.uniform(0.1, 1))
            for source in (None, *self.langs):
                condition: Condition = "baseline" if source is None else "native" if source == target else "transferred"
                share = base if source is None else base * float(self.rng.beta(0.6, 0.8))
                pair = self.judged(asked, share, chosen[source] if source else None)
                cells.append(CellAnswers(Cell(source, target, condition), *pair))
            harmless[target] = self.judged(self.prompts(target, "harmless", "test", self.n), 0.02, None)[1]
        selections = Selections(chosen, {})
        return assemble_transfer(self.bench.asking(experiment), selections, cells, named("harmless", harmless))


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--languages", type=int, default=17)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--n", type=int, default=572)
    parser.add_argument("--no-geometry", action="store_true")
    asked = parser.parse_args()
    langs = [lang for lang in NAMES if lang != "yi"][: asked.languages]
    with tempfile.TemporaryDirectory() as room:
        store, made = Store(Path(room)), []
        started = time.perf_counter()
        for i in range(asked.models):
            bench = Workbench(store, Machine(f"made-up-{i}", device="cpu", dtype="bfloat16"))
            bench.refs[bench.machine] = ModelRef(f"made-up/model-{i}-instruct", Path(room), f"{i}" * 40, "f" * 64)
            made.append(Maker(bench, np.random.default_rng(i), asked.n, langs).transfer())
        built = time.perf_counter()
        bench = Workbench(store, Machine("none", device="cpu"))
        found = make_report(bench, made, geometry=not asked.no_geometry, published=True)
        done = time.perf_counter()
        asked.out.mkdir(parents=True, exist_ok=True)
        for name in found.manifest["files"]:
            (asked.out / name).write_bytes((found.path / name).read_bytes())
    size = (asked.out / "report.html").stat().st_size
    print(f"cells {asked.models * len(langs) ** 2}, made in {built - started:.1f} s, report in {done - built:.1f} s")
    print(f"report.html {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
