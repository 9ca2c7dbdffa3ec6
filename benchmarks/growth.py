"""How the time of collecting, scoring and answering grows with prompts, layers and the model's size, and the work of a
plan with languages: exponents by least squares on logarithms, with 95 % limits.

`python -m benchmarks.growth [--rounds 3 --out F]`; `--tiny` takes seconds. Random Llamas, one thread, CPU time: figures
of a processor. The work of a plan is counted, not timed; the peak memory of `collect` is that of a process of its own.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import command
from benchmarks.passes_speed import answer, collect
from benchmarks.selection_speed import clock
from refusalctl.data import sets
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files.resolve import resolve
from refusalctl.model.hooks import Intervention
from refusalctl.model.load import versions
from refusalctl.settings import Machine, Settings
from refusalctl.steps.forecast import forecast_work
from refusalctl.steps.selection.scorer import Criteria, Scorer
from refusalctl.steps.step import Workbench
from refusalctl.steps.transfer import measure_transfer
from refusalctl.store.store import Store

CANDIDATES, NEW_TOKENS, BATCH, WIDTH, DEPTH, N = 2, 16, 16, 384, 6, 32
VARIED: dict[str, tuple[int, ...]] = {"n": (8, 16, 32, 64), "layers": (3, 6, 12, 24), "width": (192, 384, 576, 768)}
TINY: dict[str, tuple[int, ...]] = {"n": (4, 8, 16), "layers": (2, 3, 4), "width": (32, 64, 96)}
LANGS = ("en", "de", "be", "ba", "tg", "ru")
WORK = ("collect", "score", "answer")


class Fit(NamedTuple):
    """y proportional to x ** exponent, with the exponent's 95 % limits; None for fewer than three points."""

    exponent: float
    low: float | None
    high: float | None


def fitted(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Least squares of log y on log x."""
    from scipy import stats

    found = stats.linregress(np.log(x), np.log(y))
    if len(x) < 3:
        return Fit(float(found.slope), None, None)
    reach = float(stats.t.ppf(0.975, len(x) - 2)) * float(found.stderr)
    return Fit(float(found.slope), float(found.slope) - reach, float(found.slope) + reach)


def model(width: int, layers: int) -> ChatModel:
    """A random Llama with the tokenizer of `smollm2`; answers go on to the limit."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": width, "intermediate_size": 8 * width // 3, "num_hidden_layers": layers}
    heads = {"num_attention_heads": max(1, width // 64), "num_key_value_heads": max(1, width // 64)}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=49152, tie_word_embeddings=True, **shape, **heads))
    words = AutoTokenizer.from_pretrained(resolve("smollm2").folder, local_files_only=True)
    made.generation_config.pad_token_id = words.pad_token_id
    made.generation_config.eos_token_id = None
    found = ChatModel(made.eval().requires_grad_(False), words, None)
    found.__dict__["eos_ids"] = []
    return found


def prompts(of: ChatModel, n: int) -> dict[str, list[list[int]]]:
    """Prompts of the sample set, again and again where it is too small."""
    found = {}
    for kind in ("harmful", "harmless"):
        texts = [p.text for split in ("train", "test") for p in sets.usable(sets.SAMPLE_SET, "en", kind, split)]
        found[kind] = [of.chat.encode(f"{texts[i % len(texts)]} {i}") for i in range(n)]
    return found


def seconds(of: ChatModel, n: int, rounds: int) -> dict[str, float]:
    """Median seconds of each kind of work on `n` prompts a class."""
    rows, taken = prompts(of, n), {name: list[float]() for name in WORK}
    vector = torch.randn(of.residual.d_model, generator=torch.Generator().manual_seed(0))
    layer = of.residual.n_layers // 2

    def scored() -> None:
        criteria = Criteria(Scorer(of, [[5], [6]], BATCH), rows["harmful"], rows["harmless"], n_directions=CANDIDATES)
        for _ in range(CANDIDATES):
            criteria.all(vector, layer)

    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            for name, work in (
                ("collect", lambda: collect(of, rows["harmful"], BATCH, Path(folder) / "a.h5")),
                ("score", scored),
                ("answer", lambda: answer(of, rows["harmful"], Intervention("ablate", vector), NEW_TOKENS, BATCH)),
            ):
                started = clock()
                work()
                if turn:  # the first warms up
                    taken[name].append(clock() - started)
    return {name: median(each) for name, each in taken.items()}


def grown(varied: dict[str, tuple[int, ...]], rounds: int) -> dict[str, Any]:
    """Seconds and exponents by what is varied; of the width also by parameters outside the embeddings."""
    base = {name: values[len(values) // 2 - 1] for name, values in varied.items()}
    found: dict[str, Any] = {}
    for name, values in varied.items():
        points = []
        for value in values:
            at = base | {name: value}
            made = model(at["width"], at["layers"])
            points.append(seconds(made, at["n"], rounds) | {"parameters": _parameters(made)})
        fits = {work: fitted(values, [point[work] for point in points])._asdict() for work in WORK}
        found[name] = {"at": values, "others": base, "seconds": points, "exponents": fits}
        if name == "width":
            sizes = [point["parameters"] for point in points]
            by_size = {work: fitted(sizes, [point[work] for point in points])._asdict() for work in WORK}
            found["parameters"] = {"at": sizes, "exponents": by_size}
    return found


def _parameters(of: ChatModel) -> int:
    held = sum(p.numel() for p in of.model.parameters())
    return held - int(of.model.get_input_embeddings().weight.numel())


def planned(langs: Sequence[str]) -> dict[str, Any]:
    """Work of plans with as many sources as targets, from the recipes: no weights are read."""
    found = []
    for n in range(2, len(langs) + 1):
        with tempfile.TemporaryDirectory() as folder:
            asked = Settings.of(sources=langs[:n], targets=langs[:n], data="sample", n_train=48, n_val=18, n_test=48)
            bench = Workbench(Store(Path(folder)), Machine("smollm2-refuser", device="cpu"), dry_run=True)
            measure_transfer(bench.asking(asked))
            total = forecast_work(bench).total
            found.append({"passes": total.total, "answers": total.answers})
    at = list(range(2, len(langs) + 1))
    fits = {what: fitted(at, [row[what] for row in found])._asdict() for what in ("passes", "answers")}
    return {"at": at, "work": found, "exponents": fits}


def peak(n: int, width: int) -> float:
    """MiB that a process of its own held at most while it collected from `n` prompts."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", "--peak", str(n), "--width", str(width)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def _peak_here(n: int, width: int) -> None:
    torch.set_num_threads(1)
    made = model(width, 6)
    with tempfile.TemporaryDirectory() as folder:
        collect(made, prompts(made, n)["harmful"], 8, Path(folder) / "a.h5")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def show(value: dict[str, Any]) -> None:
    for name, found in value["growth"].items():
        told = ", ".join(f"{work} {_fit(each)}" for work, each in found["exponents"].items())
        print(f"{name:10} {found['at'][0]} to {found['at'][-1]}: {told}")
    told = ", ".join(f"{what} {_fit(each)}" for what, each in value["languages"]["exponents"].items())
    print(f"{'languages':10} {value['languages']['at'][0]} to {value['languages']['at'][-1]}: {told}")
    told = ", ".join(f"{mib:.0f} MiB at n = {n}" for n, mib in value["peak_mib"].items())
    print(f"peak memory of collect: {told}")


def _fit(each: dict[str, float | None]) -> str:
    limits = "" if each["low"] is None else f" ({each['low']:.2f} to {each['high']:.2f})"
    return f"{each['exponent']:.2f}{limits}"


def main(args: Sequence[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small shapes, few prompts")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, default=WIDTH, help=argparse.SUPPRESS)
    command.add_out(parser)
    given = parser.parse_args(args)
    if given.peak is not None:
        _peak_here(given.peak, given.width)
        return
    torch.set_num_threads(1)
    width, at = (32, (4, 16)) if given.tiny else (1024, (64, 256))
    value: dict[str, Any] = {
        "growth": grown(TINY if given.tiny else VARIED, given.rounds),
        "languages": planned(LANGS[:3] if given.tiny else LANGS),
        "peak_mib": {n: peak(n, width) for n in at},
        "versions": versions() | {"system": platform.system()},
    }
    command.write_figures(given.out, value)
    show(value)


if __name__ == "__main__":
    main()
