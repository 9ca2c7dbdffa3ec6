"""How fast `collect` and `ablate` are, against the bare model and the way the published code does it, in one call.

`python -m benchmarks.passes_speed [--model smollm2-refuser --n 32 --rounds 5 --answers 64 --new-tokens 64 --out F]`;
`--model tiny` takes seconds; `--model qwen2.5-7b --device cuda --dtype bfloat16` a random-weight model of that shape.

- collect: every layer and position to an HDF5 file. Against `bare`, the same batches without hooks and output layer,
  and `hidden states`, transformers' own way: all layers at all positions kept, in the prompts' order. Beside it what
  limits it: the bare passes, the same bytes copied from the device, and the same bytes onto the same disk.
- ablate: greedy answers under an ablation. Against the same without one, and the published loop: batches of 8, hooks at
  block, attention and MLP that normalise the direction whenever they are called.

Rounds are interleaved. What they give has to agree before a ratio is given.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import command
from benchmarks.selection_reference import Reference, on_device
from benchmarks.selection_speed import clock, matrix_rate, spread
from benchmarks.shapes import opened
from refusalctl.data import sets
from refusalctl.model.batching import plan_batches
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.forward import activations
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Intervention
from refusalctl.model.load import versions
from refusalctl.records.rows import KINDS, SPLITS
from refusalctl.store import formats

Rows = list[list[int]]


def prompts(model: ChatModel, langs: Sequence[str], n: int) -> tuple[list[str], Rows]:
    """Texts of the sample set, classes and languages mixed, and their token ids."""
    places = [(lang, kind, split) for split in SPLITS[::-1] for lang in langs for kind in KINDS]
    texts = [p.text for place in places for p in sets.usable(sets.SAMPLE_SET, *place)]
    chosen = texts[:: max(1, len(texts) // n)][:n]
    return chosen, [model.chat.encode(text) for text in chosen]


# --- collect ------------------------------------------------------------------------------------------------


def collect(model: ChatModel, rows: Rows, batch_size: int, file: Path) -> None:
    """As the step does it."""
    columns = [*model.chat.positions, model.chat.inst_position]
    shape = formats.ActivationShape(len(rows), len(columns), model.residual.n_layers, model.residual.d_model)
    with formats.write_activations(file, shape, {}) as writer:
        for indices, batch in activations(model, rows, columns, batch_size):
            writer.put(indices, batch.numpy())


@torch.inference_mode()
def bare(model: ChatModel, rows: Rows, batch_size: int) -> None:
    for indices in plan_batches([len(row) for row in rows], batch_size):
        batch = model.chat.batch([rows[i] for i in indices], model.device)
        model.model.base_model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False
        )


def copied(model: ChatModel, n_bytes: int, n: int) -> None:
    """So many bytes from the device to the memory of the machine, in `n` pieces, one after another."""
    piece = torch.empty(max(1, n_bytes // n // 4), device=model.device)
    kept = torch.empty(piece.shape, pin_memory=piece.is_cuda)
    for _ in range(n):
        kept.copy_(piece, non_blocking=True)
    if piece.is_cuda:
        torch.cuda.synchronize()


def written(file: Path, n_bytes: int, n: int) -> None:
    """So many bytes into a file, in `n` pieces, until the disk has them."""
    piece = bytes(n_bytes // n)
    with file.open("wb", buffering=0) as out:
        for _ in range(n):
            out.write(piece)
        os.fsync(out.fileno())


@torch.inference_mode()
def hidden_states(model: ChatModel, rows: Rows, batch_size: int) -> Tensor:
    """`resid_pre` [n, n_layers, d_model] at the last position, through transformers."""
    found = []
    for start in range(0, len(rows), batch_size):
        batch = model.chat.batch(rows[start : start + batch_size], model.device)
        out = model.model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False,
            output_hidden_states=True,
        )  # fmt: skip
        kept = torch.stack(out.hidden_states[: model.residual.n_layers], dim=2)[:, -5:].float().cpu()
        found.append(kept[:, -1])
    return torch.cat(found)


# --- answers ------------------------------------------------------------------------------------------------


def answer(model: ChatModel, rows: Rows, asked: Intervention, new_tokens: int, batch_size: int) -> dict[int, list[int]]:
    """Ids of every answer, which goes on to the limit (see `endless`)."""
    done = complete(model, rows, asked, max_new_tokens=new_tokens, batch_size=batch_size)
    return {i: each.ids for indices, answers, _ in done for i, each in zip(indices, answers)}


@torch.inference_mode()
def published_loop(model: ChatModel, texts: Sequence[str], vector: Tensor, new_tokens: int) -> dict[int, list[int]]:
    plain = Reference(model.model, model.tokenizer, model.system, model.residual.blocks, [], 8)
    found: dict[int, list[int]] = {}
    for start in range(0, len(texts), 8):
        batch = model.chat.batch([model.chat.encode(text) for text in texts[start : start + 8]], model.device)
        with on_device(plain.ablation(vector)):
            out = model.model.generate(
                input_ids=batch.ids, attention_mask=batch.mask, max_new_tokens=new_tokens, do_sample=False,
                pad_token_id=model.chat.pad_id,
            )  # fmt: skip
        found |= dict(enumerate(out[:, batch.ids.shape[1] :].tolist(), start=start))
    return found


def endless(model: ChatModel) -> None:
    """Let no answer end before the limit: all ways then write the same number of tokens."""
    model.model.generation_config.eos_token_id = None
    model.__dict__["eos_ids"] = []


# --- rounds -------------------------------------------------------------------------------------------------


def timed(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round; the ways take turns, each round in another order, after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for each in work.values():
        each()
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = clock()
            work[name]()
            seconds[name].append(clock() - started)
    return seconds


def ratios(seconds: dict[str, list[float]], pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """How many times as fast the first of each pair is as the second, over rounds."""
    return {f"{a} / {b}": spread([y / x for x, y in zip(seconds[a], seconds[b])]) for a, b in pairs}


def collecting(model: ChatModel, given: argparse.Namespace) -> dict[str, Any]:
    _texts, rows = prompts(model, given.langs, given.n)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "activations.h5"
        collect(model, rows, given.batch, file)
        with formats.open_activations(file) as (data, _header):
            last = torch.from_numpy(data[:, model.chat.positions.index(-1)])
        expected = hidden_states(model, rows, given.batch)
        worst = float(((last - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-6)).max())
        if not worst <= given.agree:
            sys.exit(f"activations differ from transformers' hidden states by {worst:.2g}: no ratio is given")
        seconds = timed(
            {
                "collect": lambda: collect(model, rows, given.batch, file),
                "bare": lambda: bare(model, rows, given.batch),
                "hidden states": lambda: hidden_states(model, rows, given.batch),
            },
            given.rounds,
        )
        size, pieces = file.stat().st_size, -(-len(rows) // given.batch)
        limits = timed(
            {
                "compute": lambda: bare(model, rows, given.batch),
                "copy": lambda: copied(model, size, pieces),
                "disk": lambda: written(Path(folder) / "plain", size, pieces),
            },
            given.rounds,
        )
    pairs = [("collect", "bare"), ("collect", "hidden states")]
    return {
        "n": len(rows), "tokens": sum(map(len, rows)), "bytes": size, "largest_difference": worst,
        "seconds": {k: spread(v) for k, v in seconds.items()}, "speed": ratios(seconds, pairs),
        "limits": {k: spread(v) for k, v in limits.items()},
    }  # fmt: skip


def answering(model: ChatModel, given: argparse.Namespace) -> dict[str, Any]:
    endless(model)
    texts, rows = prompts(model, given.langs, given.answers)
    vector = torch.randn(model.residual.d_model, generator=torch.Generator().manual_seed(0))
    asked = Intervention("ablate", vector, 0)
    mine = answer(model, rows, asked, given.new_tokens, given.answer_batch)
    theirs = published_loop(model, texts, vector, given.new_tokens)
    same = sum(mine[i] == theirs[i] for i in mine)
    if same < given.same * len(rows):  # other batch sizes round differently: choices between equals flip
        sys.exit(f"only {same} of {len(rows)} answers are the published loop's: no ratio is given")
    seconds = timed(
        {
            "ablated": lambda: answer(model, rows, asked, given.new_tokens, given.answer_batch),
            "plain": lambda: answer(model, rows, Intervention(), given.new_tokens, given.answer_batch),
            "published loop": lambda: published_loop(model, texts, vector, given.new_tokens),
        },
        given.rounds,
    )
    return {
        "n": len(rows), "new_tokens": given.new_tokens, "same_answers": same, "batch": given.answer_batch,
        "seconds": {k: spread(v) for k, v in seconds.items()},
        "tokens_per_second": {k: len(rows) * given.new_tokens / spread(v)["median"] for k, v in seconds.items()},
        "speed": ratios(seconds, [("ablated", "plain"), ("ablated", "published loop")]),
    }  # fmt: skip


def main(args: Sequence[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="smollm2-refuser")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokenizer", type=Path, help="a folder, for random-weight models; smollm2's by default")
    parser.add_argument("--langs", type=command.comma_list, default=["en", "de", "be"])
    parser.add_argument("--n", type=int, default=64, help="prompts to collect from")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--answer-batch", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--agree", type=float, default=1e-4, help="largest relative difference of a stream")
    parser.add_argument("--same", type=float, default=0.9, help="smallest share of equal answers")
    parser.add_argument("--only", choices=("collect", "ablate"))
    command.add_out(parser)
    given = parser.parse_args(args)
    torch.set_num_threads(given.threads)
    model = opened(given.model, device=given.device, dtype=given.dtype, tokenizer=given.tokenizer)
    work = {"collect": collecting, "ablate": answering}
    started = time.time()
    value: dict[str, Any] = {name: each(model, given) for name, each in work.items() if given.only in (None, name)}
    value["matrix_gflops"] = matrix_rate(model)
    value["setting"] = {k: v for k, v in vars(given).items() if k not in ("out", "only", "tokenizer")}
    value["clock"] = "CPU" if given.threads == 1 else "wall"
    value["versions"] = versions() | {"system": platform.system()}
    command.write_figures(given.out, value)
    if "collect" in value:
        told = ", ".join(f"{name} {each['median']:.3f} s" for name, each in value["collect"]["limits"].items())
        size = value["collect"]["bytes"] / 1e6
        print(f"collect: {value['collect']['seconds']['collect']['median']:.3f} s, {size:.0f} MB; alone {told}")
    for name in work:
        for pair, each in value.get(name, {}).get("speed", {}).items():
            print(f"{name}: {pair} {each['median']:.2f} ({each['min']:.2f} to {each['max']:.2f}) times as fast")
    print(f"{value['versions']}, {given.threads} threads, {time.time() - started:.0f} s in all")


if __name__ == "__main__":
    main()
