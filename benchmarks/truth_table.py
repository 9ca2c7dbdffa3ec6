"""The trained truth of `smollm2-refuser`: what its languages do when one of its two trained directions is ablated.

    python -m benchmarks.truth_table --split test --n 48

Rows: refusal rate on harmful / harmless prompts (`substring` judge, greedy) plain, under ablation of u1, and of u2;
degenerate answers to harmless prompts and mean KL (nats) of the first answer token there; cosines of the language's
difference in means with u1 and u2 at one layer and position -1.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks import command
from benchmarks.train_refuser import render
from refusalctl.data import sets
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files import embedded, resolve
from refusalctl.model.forward import activations, last_logprobs
from refusalctl.model.generate import complete
from refusalctl.model.interventions import Intervention
from refusalctl.model.judges.degenerate_first import judge_rows
from refusalctl.model.judges.protocol import Item
from refusalctl.model.judges.substring import SubstringJudge
from refusalctl.model.load import load
from refusalctl.records.rows import KINDS

BATCH = 24

Rows = list[list[int]]


def outcomes(model: ChatModel, rows: Rows, lang: str, asked: Intervention, tokens: int) -> list[str]:
    """What the judge calls each answer, in an order that does not matter."""
    items = [
        Item(None, answer.text, lang)
        for _, answers, _ in complete(model, rows, asked, max_new_tokens=tokens, batch_size=BATCH)
        for answer in answers
    ]
    return [verdict.outcome for _, verdict in judge_rows(SubstringJudge(), items)]


def mean_end(model: ChatModel, rows: Rows, layer: int) -> torch.Tensor:
    """Mean resid_pre of a layer at the prompts' last token, [d_model]."""
    return torch.cat([found[:, 0, layer] for _, found in activations(model, rows, [-1], BATCH)]).mean(dim=0)


def moved(model: ChatModel, rows: Rows, asked: Intervention) -> float:
    """Mean KL (nats) of the next token after each prompt, plain from ablated."""
    plain, other = (last_logprobs(model, rows, each, BATCH) for each in (Intervention(), asked))
    return float((plain.exp() * (plain - other)).sum(dim=-1).mean())


def row(model: ChatModel, lang: str, prompts: dict[str, Rows], vectors: dict[str, torch.Tensor], args: object) -> str:
    tokens, layer = args.max_new_tokens, args.layer  # type: ignore[attr-defined]
    ablations = {"plain": Intervention()} | {k: Intervention("ablate", v) for k, v in sorted(vectors.items())}
    cells = [lang]
    for name, asked in ablations.items():
        harmful, harmless = (outcomes(model, prompts[kind], lang, asked, tokens) for kind in KINDS)
        shares = " / ".join(f"{seen.count('refusal') / len(seen):.0%}" for seen in (harmful, harmless))
        broken = (harmful + harmless).count("degenerate") / len(harmful + harmless)
        kl = "" if name == "plain" else f", KL {moved(model, prompts['harmless'], asked):.2f}"
        cells.append(f"{shares} (degenerate {broken:.0%}{kl})")
    difference = mean_end(model, prompts["harmful"], layer) - mean_end(model, prompts["harmless"], layer)
    cells += [f"{float(torch.cosine_similarity(difference, v, dim=0)):.2f}" for _, v in sorted(vectors.items())]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--adapter", type=Path, help="folder of another adapter (default: the embedded one)")
    parser.add_argument("--directions", type=Path, help="default: beside the adapter")
    parser.add_argument("--data", default="sample")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--langs", default="en,de,be,ba")
    parser.add_argument("--n", type=int, default=18)
    parser.add_argument("--layer", type=int, default=21)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    args = parser.parse_args()

    adapter = args.adapter or embedded.adapter_dir(embedded.REFUSER)
    vectors = load_file(args.directions or adapter / "trained_directions.safetensors")
    model = load(dataclasses.replace(resolve.resolve(embedded.REFUSER), adapter=adapter))
    print(f"{adapter.name}, {args.data} {args.split}, n = {args.n} a cell, {args.max_new_tokens} new tokens")
    print("| lang | plain: harmful / harmless | u1 ablated | u2 ablated | cosine u1 | cosine u2 |")
    print("|---|---|---|---|---|---|")
    langs = args.langs.split(",")
    for lang in langs:
        prompts = {}
        for kind in KINDS:
            ids = sets.draw(args.data, langs, kind, args.split, args.n, 0)
            prompts[kind] = [render(model.tokenizer, p.text) for p in sets.pick(args.data, lang, ids)]
        print(row(model, lang, prompts, vectors, args), flush=True)


if __name__ == "__main__":
    main()
