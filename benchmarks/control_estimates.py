"""How well first-order estimates say at which place a control draw does most.

    python -m benchmarks.control_estimates --model smollm2-refuser --data sample --langs en,ba --draws 19

Every draw is scored at every place, as `--control-candidates 0` does. Trust: the correlation over places of a draw's
estimated and measured bypass scores, and over all; then what scoring only the n best to first order misses: how often
the best place is among them, and how much higher (log-odds) the score of the one taken is, beside that of n places
taken blindly. `procedure_simulation.py` says what a trust is good for.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import command
from refusalctl.model.hooks import Intervention
from refusalctl.records.selection import Candidate
from refusalctl.settings import Machine, Settings
from refusalctl.steps.interventions import SELECTION_FILE
from refusalctl.steps.selection.control_search import WANTED, criteria_of, first_order, places_of
from refusalctl.steps.selection.controls import draw_control_directions, draws_at
from refusalctl.steps.selection.scorer import mean
from refusalctl.steps.step import Job, Workbench
from refusalctl.store import formats
from refusalctl.store.store import Store

KEPT = (1, 2, 3, 4, 6)


def scores(bench: Workbench, lang: str, where: Path) -> tuple[np.ndarray, np.ndarray]:
    """Estimated and measured mean bypass scores of all draws at all places, [n_draws, n_places]."""
    drawn = draw_control_directions(bench, lang)
    params = drawn.manifest["recipe"]["params"]
    job = Job(params, {k: bench.store.resolve(v) for k, v in drawn.inputs.items()}, where, where, bench)
    tensors, header = formats.read_vectors(job.inputs["selection"].path / SELECTION_FILE, "selection")
    winner = Candidate(header["pos"], header["layer"])
    generator = torch.Generator().manual_seed(params["seed"])
    draws, places = draws_at(places_of(job), winner, tensors["direction"][None], params["n"], generator)
    criteria = criteria_of(job, params["n"] * len(places))
    estimated = first_order(criteria, draws).T.numpy()
    measured = np.array(
        [
            [
                mean(criteria.under(Intervention("ablate", draw, place.at.layer), WANTED["bypass"])["bypass"])
                for place, draw in zip(places, at_places, strict=True)
            ]
            for at_places in zip(*draws, strict=True)
        ]
    )
    return estimated, measured


def line(lang: str, estimated: np.ndarray, measured: np.ndarray) -> str:
    per_draw = [float(np.corrcoef(e, m)[0, 1]) for e, m in zip(estimated, measured, strict=True)]
    cells = [lang, f"{np.median(per_draw):.2f}", f"{np.corrcoef(estimated.ravel(), measured.ravel())[0, 1]:.2f}"]
    best = measured.min(axis=1)
    generator = np.random.default_rng(0)
    for n in KEPT:
        kept = np.take_along_axis(measured, np.argsort(estimated, axis=1)[:, :n], axis=1).min(axis=1)
        blind = np.array([generator.choice(row, n, replace=False).min() for row in measured])
        cells.append(f"{np.mean(kept == best):.0%}, {np.mean(kept - best):.2f} ({np.mean(blind - best):.2f})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="smollm2-refuser")
    parser.add_argument("--data", default="sample")
    parser.add_argument("--langs", default="en,ba")
    parser.add_argument("--draws", type=int, default=19)
    parser.add_argument("--n-val", type=int, default=12)
    parser.add_argument("--layers", default="10:24")
    parser.add_argument("--rule", default="wang")
    args = parser.parse_args()
    first, last = map(int, args.layers.split(":"))
    langs = tuple(args.langs.split(","))
    settings = Settings.of(
        sources=langs, targets=langs, data=args.data, n_train=24, n_val=args.n_val, n_controls=args.draws,
        positions=(-1,), layers=tuple(range(first, last)), rule=args.rule, max_kl=1.0,
        control_candidates=1, induce=False,
    )  # fmt: skip
    print(f"| lang | trust, median draw | over all | {' | '.join(f'best of {n} (blindly)' for n in KEPT)} |")
    print("|" + "---|" * (3 + len(KEPT)))
    with tempfile.TemporaryDirectory() as room:
        bench = Workbench(Store(Path(room) / "store"), Machine(args.model, batch_size=48)).asking(settings)
        for lang in langs:
            print(line(lang, *scores(bench, lang, Path(room))), flush=True)


if __name__ == "__main__":
    main()
