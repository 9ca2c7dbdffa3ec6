"""Labels per second of a local generative judge: batched with a shared beginning against one at a time, in one run.

`python -m benchmarks.judge_throughput [--rows 32] [--batch 32] [--langs en]`. The weights are the embedded
SmolLM2-135M-Instruct: a stand-in that costs what a judge of its size costs and whose verdicts mean nothing. All ways
run the real judge, write the same number of tokens per row and must write the same ones.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks import command
from refusalctl.data import sample, sets
from refusalctl.model.files import embedded
from refusalctl.model.files.digests import folder_digest
from refusalctl.model.judges import polyguard
from refusalctl.model.judges.generative import GenerativeJudge
from refusalctl.model.judges.protocol import Item
from refusalctl.model.judges.weights import JudgeModel, Settings

TOKENS = 20  # about what WildGuard's three lines take


def items(n: int, langs: Sequence[str]) -> list[Item]:
    """Mild prompts of the sample set, each answered by the next prompts of its language."""
    found = []
    for lang in langs:
        texts = [row.text for row in sets.prompts("sample", lang) if row.kind == "harmless"]
        for i in range(0, len(texts) - 3, 2):
            found.append(Item(texts[i], " ".join(texts[i + 1 : i + 2 + i % 3]), lang))
    step = max(1, len(found) // n)
    return found[::step][:n]


def judge(batch: int, share: bool) -> GenerativeJudge:
    folder = embedded.base_folder()
    found = JudgeModel("stand-in", folder, f"files-{folder_digest(folder)[:32]}", hub=False)
    form = replace(polyguard.FORMAT, max_new_tokens=TOKENS, whole=False)
    settings = Settings(device="cpu", dtype="float32", batch_size=batch)
    made = GenerativeJudge(polyguard.DECLARATIONS[0], form, found, settings, share_prefix=share)
    made.loaded.model.generation_config.eos_token_id = None  # every row writes all its tokens, in both ways
    made._ends = set  # type: ignore[method-assign]
    return made


def answers(made: GenerativeJudge, rows: Sequence[Item]) -> dict[int, list[int]]:
    """Generated ids of every row, through the judge's own batching."""
    seen: list[list[int]] = []
    generate = made._generate

    def recording(batch: Sequence[list[int]], prefix: Any) -> list[list[int]]:
        written = generate(batch, prefix)
        seen.extend(written)
        return written

    made._generate = recording  # type: ignore[method-assign,assignment]
    order = [i for i, _ in made.judge_all(rows)]
    made._generate = generate  # type: ignore[method-assign]
    return dict(zip(order, seen))


def main() -> None:
    import torch

    parser = command.parser(__doc__)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--langs", default="en", help="languages of the sample set such as en,be, or all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = items(given.rows, sample.languages() if given.langs == "all" else given.langs.split(","))
    tokens: dict[str, dict[int, list[int]]] = {}
    rates, work = {}, {}
    for name, batch, share in (("one at a time", 1, False), ("batched", given.batch, False),
                               ("batched, shared beginning", given.batch, True)):  # fmt: skip
        made = judge(batch, share)
        list(made.judge_all(rows[:2]))  # warm
        started, busy = time.perf_counter(), time.process_time()
        tokens[name] = answers(made, rows)
        rates[name] = len(rows) / (time.perf_counter() - started)
        work[name] = (time.process_time() - busy) / len(rows)
        lengths = sorted(len(made._encode(row).ids) for row in rows)
        made.release()
    first = tokens["one at a time"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}")
    about = f"prompts of {lengths[0]} to {lengths[-1]} tokens, {TOKENS} written, batch {given.batch}"
    print(f"{len(rows)} rows ({given.langs}), {about}")
    for name, rate in rates.items():
        same = sum(tokens[name][i] == first[i] for i in first)
        faster = (
            f"{rate / rates['one at a time']:.1f}x by the clock, {work['one at a time'] / work[name]:.1f}x by CPU time"
        )
        print(f"{name}: {rate:.2f} labels/s ({work[name]:.2f} CPU s each), {faster}; {same}/{len(rows)} rows the same")


if __name__ == "__main__":
    main()
