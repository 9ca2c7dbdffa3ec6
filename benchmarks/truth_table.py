"""The trained truth of `smollm2-refuser`: what its languages do when one of its two trained directions is ablated.

    python -m benchmarks.truth_table --split test --n 48

Rows: refusal rate on harmful / harmless prompts (`substring` judge, greedy) plain, under ablation of u1, and of u2;
degenerate answers to harmless prompts and mean KL (nats) of the first answer token there; cosines of the language's
difference in means with u1 and u2 at one layer and position -1. With `--quick`, a tenth of the time, and no English:
share of prompts for which a refusal's opening is likelier than a stock answer's, and the AUROC of these odds (harmful
against harmless).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from benchmarks import command
from benchmarks.refuser_texts import ANSWERS, REFUSALS
from benchmarks.train_refuser import render
from refusalctl.data import sets
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.files import embedded, resolve
from refusalctl.model.forward import activations, last_logprobs, opening_logprob
from refusalctl.model.generate import complete
from refusalctl.model.interventions import Intervention
from refusalctl.model.judges.degenerate_first import judge_rows
from refusalctl.model.judges.protocol import Item
from refusalctl.model.judges.substring import SubstringJudge
from refusalctl.model.load import load
from refusalctl.records.rows import KINDS, Kind

BATCH = 24
OPENING = 3  # tokens; the first alone is a byte that refusals and answers can share

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


def token_ids(model: ChatModel, text: str) -> list[int]:
    """Token ids of a text without template."""
    return [int(i) for i in model.tokenizer(text, add_special_tokens=False)["input_ids"]]


def odds(model: ChatModel, rows: Rows, lang: str, asked: Intervention) -> torch.Tensor:
    """Log-odds of a refusal's opening tokens over those of a stock answer, whichever wording, [n_prompts]."""
    openings = ([token_ids(model, text)[:OPENING] for text in texts[lang]] for texts in (REFUSALS, ANSWERS))
    refusal, answer = (opening_logprob(model, rows, each, asked, BATCH) for each in openings)
    return refusal - answer


def quick_cell(model: ChatModel, lang: str, prompts: dict[Kind, Rows], asked: Intervention) -> str:
    """Shares of harmful / harmless prompts, and how well the odds tell the two apart."""
    harmful, harmless = (odds(model, prompts[kind], lang, asked) for kind in KINDS)
    truth = [1] * len(harmful) + [0] * len(harmless)
    area = float(roc_auc_score(truth, torch.cat([harmful, harmless]).tolist()))
    return f"{float((harmful > 0).float().mean()):.0%} / {float((harmless > 0).float().mean()):.0%} (AUROC {area:.2f})"


def full_cell(model: ChatModel, lang: str, prompts: dict[Kind, Rows], asked: Intervention, tokens: int) -> str:
    """Refusal rates on harmful / harmless prompts, degenerate answers, and how far the harmless ones moved."""
    harmful, harmless = (outcomes(model, prompts[kind], lang, asked, tokens) for kind in KINDS)
    shares = " / ".join(f"{seen.count('refusal') / len(seen):.0%}" for seen in (harmful, harmless))
    broken = harmless.count("degenerate") / len(harmless)
    kl = "" if asked.kind == "none" else f", KL {moved(model, prompts['harmless'], asked):.2f}"
    return f"{shares} (degenerate {broken:.0%}{kl})"


def row(
    model: ChatModel, lang: str, prompts: dict[Kind, Rows], vectors: dict[str, torch.Tensor], args: argparse.Namespace
) -> str:
    """One language's line of the table."""
    cells = [lang]
    for asked in (Intervention(), *(Intervention("ablate", v) for _, v in sorted(vectors.items()))):
        if args.quick:
            cells.append(quick_cell(model, lang, prompts, asked))
        else:
            cells.append(full_cell(model, lang, prompts, asked, args.max_new_tokens))
    difference = mean_end(model, prompts["harmful"], args.layer) - mean_end(model, prompts["harmless"], args.layer)
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
    parser.add_argument("--quick", action="store_true", help="openings instead of answers")
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()

    adapter = args.adapter or embedded.adapter_dir(embedded.REFUSER)
    vectors = load_file(args.directions or adapter / "trained_directions.safetensors")
    model = load(dataclasses.replace(resolve.resolve(embedded.REFUSER), adapter=adapter), dtype=args.dtype)
    print(f"{adapter.name}, {args.data} {args.split}, n = {args.n} a cell, {args.max_new_tokens} new tokens")
    print("| lang | plain: harmful / harmless | u1 ablated | u2 ablated | cosine u1 | cosine u2 |")
    print("|---|---|---|---|---|---|")
    langs = args.langs.split(",")
    for lang in langs:
        prompts: dict[Kind, Rows] = {}
        for kind in KINDS:
            ids = sets.draw(args.data, langs, kind, args.split, args.n, 0)
            prompts[kind] = [render(model.tokenizer, p.text) for p in sets.pick(args.data, lang, ids)]
        print(row(model, lang, prompts, vectors, args), flush=True)


if __name__ == "__main__":
    main()
