"""How fast `select` scores candidates, against the way the published code does it, on the same prompts in one call.

`python -m benchmarks.selection_speed [--model smollm2-refuser --lang en --n 8 --layers 2:24:2 --positions -1,-2
--rounds 5 --out speed.json]`; `--tiny` takes seconds, on an organism.

- reference: `selection_reference.py` on a sample of the candidates, scaled to all (`--sample 0`: all of them).
- full, prune, screen: refusalctl's searches over the whole grid, with all that they compute at their start.
  `--search full` leaves the shorter searches out: with random weights they would flatter themselves.
- bare: the model without hooks and output layer over the tokens of three sweeps (the choice needs harmful prompts
  ablated, harmless ones ablated and added to), one pass per candidate: no saving, and no cost but the passes.

`--model qwen2.5-7b --device cuda --dtype bfloat16 --rule wang --max-kl 1e9 --search full`: a random-weight model of
that shape. In half precision scores have to agree to `--agree`, and choices are held to be the same in float32 only.

Rounds are interleaved; times are CPU times on one thread (`--threads 1`), else the clock's. Scores (1e-3) and choices
have to agree before a ratio is given.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import command
from benchmarks.selection_reference import Reference
from benchmarks.shapes import opened
from refusalctl.data import sets
from refusalctl.model.batching import plan_batches
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.forward import activations, last_logprobs
from refusalctl.model.hooks import Intervention
from refusalctl.model.load import versions
from refusalctl.progress import Silent
from refusalctl.records.rows import KINDS
from refusalctl.records.selection import ByClass, Candidate, Search
from refusalctl.stats.candidate_choice import CRITERIA, CandidateScores, choose
from refusalctl.stats.selection_rule import PRESETS, Rule, layer_limit
from refusalctl.steps.finished_rows import FinishedRows
from refusalctl.steps.selection import search
from refusalctl.steps.selection.scorer import Criteria, Ledger, Scorer


def clock() -> float:
    """CPU seconds on one thread, which other processes do not lengthen; else seconds of the clock."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


SEARCHES = ("full", "prune", "screen")
Rows = dict[Candidate, dict[str, Any]]


class Setting(NamedTuple):
    """One selection: a model, its validation prompts, the tokens that open a refusal, candidates and a rule."""

    model: ChatModel
    texts: dict[str, list[str]]
    tokens: list[int]
    vectors: dict[Candidate, Tensor]
    rule: Rule
    batch_size: int
    agree: float

    @property
    def grid(self) -> list[Candidate]:
        return list(self.vectors)

    def encoded(self, kind: str) -> list[list[int]]:
        return [self.model.chat.encode(text) for text in self.texts[kind]]


def setting(given: argparse.Namespace) -> Setting:
    """Difference-in-means candidates of train prompts, and what it takes to score them."""
    model = opened(given.model, device=given.device, dtype=given.dtype, tokenizer=given.tokenizer)
    train, val = (_texts(given.data, given.lang, split, n) for split, n in (("train", given.n_train), ("val", given.n)))
    positions = given.positions or model.chat.positions
    means = []
    for kind in KINDS:
        encoded = [model.chat.encode(text) for text in train[kind]]
        rows = torch.cat([batch.double() for _indices, batch in activations(model, encoded, positions, given.batch)])
        means.append(rows.mean(0))
    difference = (means[0] - means[1]).float()
    limit = layer_limit(PRESETS[given.rule].max_layer_share, model.residual.n_layers)
    layers = [layer for layer in given.layers or range(1, limit) if layer < limit]
    vectors = {Candidate(pos, layer): difference[i, layer] for i, pos in enumerate(positions) for layer in layers}
    own = {k: v for k in ("max_kl", "min_induce") if (v := getattr(given, k)) is not None}
    rule = PRESETS[given.rule].with_limits(**own)
    tokens = given.tokens or _first_token(model, val, given.batch)
    return Setting(model, val, tokens, vectors, rule, given.batch, given.agree)


def _texts(data: str, lang: str, split: Any, n: int) -> dict[str, list[str]]:
    return {k: [p.text for p in sets.pick(data, lang, sets.draw(data, [lang], k, split, n, 0))] for k in KINDS}


def _first_token(model: ChatModel, texts: dict[str, list[str]], batch_size: int) -> list[int]:
    """The token that opens answers to harmful prompts more often than those to harmless ones."""
    encoded = ([model.chat.encode(text) for text in texts[kind]] for kind in KINDS)
    harmful, harmless = (last_logprobs(model, rows, Intervention(), batch_size).exp().mean(0) for rows in encoded)
    return [int((harmful - harmless).argmax())]


# --- what is timed ------------------------------------------------------------------------------------------


def reference(asked: Setting, batch_size: int, sample: Sequence[Candidate]) -> Rows:
    model = asked.model
    plain = Reference(model.model, model.tokenizer, model.system, model.residual.blocks, asked.tokens, batch_size)
    harmful, harmless = (asked.texts[kind] for kind in KINDS)
    with torch.inference_mode():
        baseline = plain.probabilities(harmless, [])
    return {c: plain.score(asked.vectors[c], c.layer, harmful, harmless, baseline) for c in sample}


def searched(asked: Setting, how: Search) -> Rows:
    scorer = Scorer(asked.model, [[token] for token in asked.tokens], asked.batch_size)
    middle = asked.model.residual.n_layers // 2
    layers = range(middle, middle + 3) if how == "full" else ()  # a full search takes COSMIC's streams along
    encoded = [asked.encoded(kind) for kind in KINDS]
    criteria = Criteria(scorer, *encoded, layers=layers, n_directions=len(asked.grid), partly=how != "full")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(criteria, asked.vectors, FinishedRows(Path(folder), "scores.jsonl"), Silent.advance)
        search.run(how, ledger, asked.grid, asked.rule)
    everything = ByClass(**{kind: tuple(range(n)) for kind, n in criteria.n.items()})
    rows = {c: ledger.row(c, everything) for c in asked.grid}
    return {c: {name: getattr(row, name) for name in CRITERIA} for c, row in rows.items()}


@torch.inference_mode()
def bare(asked: Setting) -> None:
    """Three sweeps without hooks and output layer."""
    for kind in (*KINDS, KINDS[1]):
        rows = asked.encoded(kind)
        for indices in plan_batches([len(row) for row in rows], asked.batch_size):
            batch = asked.model.chat.batch([rows[i] for i in indices], asked.model.device)
            asked.model.model.base_model(
                input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False
            )


def matrix_rate(model: ChatModel, times: int = 5) -> float:
    """GFLOP/s of products of square matrices, where and in what the model computes."""
    size = 8192 if model.device.type == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=model.device, dtype=model.model.dtype).unbind()
    a @ b
    started = clock()
    for _ in range(times):
        a @ b
    return times * 2 * size**3 / (clock() - started) / 1e9


# --- agreement, then figures --------------------------------------------------------------------------------


def chosen(rows: Rows, rule: Rule, n_layers: int) -> Candidate:
    """What the rule chooses among candidates that have all three scores. Raises `EmptySelection`."""
    scored = [c for c, row in rows.items() if all(row[name] is not None for name in CRITERIA)]
    columns = (np.array([[rows[c][name]] for c in scored]) for name in CRITERIA)
    return scored[choose(CandidateScores(scored, *columns), rule, n_layers)]


def agreement(asked: Setting, plain: Rows, found: dict[str, Rows]) -> dict[str, Any]:
    """The largest difference of a score to the reference's, and the choices. Exits where they are not the same."""
    n_layers = asked.model.residual.n_layers
    full = found["full"]
    worst = max(abs(row[name] - full[c][name]) for c, row in plain.items() for name in CRITERIA)
    if not worst <= asked.agree:
        sys.exit(f"scores differ from the reference's by {worst:.2g}, more than {asked.agree:g}: no ratio is given")
    choices = {how: chosen(rows, asked.rule, n_layers) for how, rows in found.items()}
    of_sample = [chosen(rows, asked.rule, n_layers) for rows in (plain, {c: full[c] for c in plain})]
    exact = asked.model.model.dtype == torch.float32
    if exact and (len(set(choices.values())) > 1 or len(set(of_sample)) > 1):
        sys.exit(f"choices differ: {choices}, of the sample {of_sample}: no ratio is given")
    return {"largest_difference": worst, "choice": choices["full"], "same_choice": len(set(of_sample)) == 1}


def sample_of(asked: Setting, full: Rows, size: int) -> list[Candidate]:
    """The winner and candidates evenly spread over the grid, so that the sample has a choice."""
    if not size or size >= len(asked.grid):
        return asked.grid
    spread = np.linspace(0, len(asked.grid) - 1, size).round().astype(int)
    best = chosen(full, asked.rule, asked.model.residual.n_layers)
    return list(dict.fromkeys([best, *(asked.grid[i] for i in spread)]))[:size]


def rounds(asked: Setting, given: argparse.Namespace) -> dict[str, Any]:
    found = {how: searched(asked, how) for how in given.search}  # warms up, too
    sample = sample_of(asked, found["full"], given.sample)
    agreed = agreement(asked, reference(asked, given.reference_batch, sample), found)
    scale = len(asked.grid) / len(sample)
    work: dict[str, Callable[[], object]] = {
        "reference": lambda: reference(asked, given.reference_batch, sample),
        **{how: partial(searched, asked, how) for how in given.search},
        "bare": lambda: bare(asked),
    }
    scales = {"reference": scale, "bare": float(len(asked.grid))}
    seconds: dict[str, list[float]] = {name: [] for name in work}
    rates = []
    for _ in range(given.rounds):
        for name, run in work.items():
            started = clock()
            run()
            seconds[name].append((clock() - started) * scales.get(name, 1.0))
        rates.append(matrix_rate(asked.model))
    ratios = {
        name: spread([r / s for r, s in zip(seconds["reference"], each)]) for name, each in seconds.items()
    } | {"full against bare": spread([b / s for b, s in zip(seconds["bare"], seconds["full"])])}  # fmt: skip
    scored = {
        how: sum(row[name] is not None for row in rows.values() for name in CRITERIA) for how, rows in found.items()
    }
    return {
        "agreement": agreed, "candidates": len(asked.grid), "sample": sample, "scores_taken": scored,
        "seconds": {name: spread(each) for name, each in seconds.items()}, "faster_than_reference": ratios,
        "matrix_gflops": spread(rates),
    }  # fmt: skip


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def show(value: dict[str, Any]) -> None:
    about, agreed = value["setting"], value["agreement"]
    print(f"{about['model']}, {about['n']} + {about['n']} prompts, {value['candidates']} candidates")
    print(f"reference on {len(value['sample'])} candidates, scaled; {value['versions']}")
    same = "the same" if agreed["same_choice"] else "another"
    print(f"scores agree to {agreed['largest_difference']:.1e}; {same} choice of the sample, {agreed['choice']}")
    for name, each in value["seconds"].items():
        print(f"{name:10} {_ranged(each)} s, {_ranged(value['faster_than_reference'][name])} times the reference")
    print(f"scores taken: {value['scores_taken']}; matrix products: {_ranged(value['matrix_gflops'])} GFLOP/s")


def _ranged(each: dict[str, float]) -> str:
    return f"{each['median']:.2f} ({each['min']:.2f} to {each['max']:.2f})"


def _numbers(text: str) -> list[int]:
    parts = [int(part) for part in text.split(":" if ":" in text else ",")]
    return list(range(*parts)) if ":" in text else parts


def parsed(args: Sequence[str] | None) -> argparse.Namespace:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="smollm2-refuser")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokenizer", type=Path, help="a folder, for random-weight models; smollm2's by default")
    parser.add_argument("--agree", type=float, default=1e-3, help="largest difference of a score")
    parser.add_argument("--search", type=command.comma_list, default=list(SEARCHES))
    parser.add_argument("--data", default="sample")
    parser.add_argument("--lang", default="en")
    parser.add_argument("--n", type=int, default=8, help="validation prompts per class")
    parser.add_argument("--n-train", type=int, default=16, help="train prompts per class")
    parser.add_argument("--positions", type=_numbers, help="such as -1,-2; all by default")
    parser.add_argument("--layers", type=_numbers, help="such as 4:24:2; all but the first by default")
    parser.add_argument("--tokens", type=_numbers, help="ids that open a refusal; the likeliest by default")
    parser.add_argument("--rule", default="arditi")
    parser.add_argument("--max-kl", type=float, help="instead of the rule's")
    parser.add_argument("--min-induce", type=float, help="instead of the rule's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=2, help="candidates that the reference scores; 0: all")
    parser.add_argument("--batch", type=int, default=16, help="refusalctl's batch size")
    parser.add_argument("--reference-batch", type=int, default=32, help="the published code's is 32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    command.add_out(parser)
    parser.add_argument("--tiny", action="store_true", help="an organism")
    given = parser.parse_args(args)
    if given.tiny:
        given.model = given.data = "organism:shared"
        given.lang, given.positions = "qaa", [-1, -2]
    return given


def main(args: Sequence[str] | None = None) -> None:
    given = parsed(args)
    torch.set_num_threads(given.threads)
    value = rounds(setting(given), given)
    value["setting"] = {k: v for k, v in vars(given).items() if k not in ("out", "tiny", "tokenizer")}
    value["clock"] = "CPU" if given.threads == 1 else "wall"
    value["versions"] = versions() | {"system": platform.system()}
    command.write_figures(given.out, value)
    show(value)


if __name__ == "__main__":
    main()
