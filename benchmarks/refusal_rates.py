"""Held-out refusal rates of a model, per language and prompt class: the table of the model card.

python -m benchmarks.refusal_rates --model smollm2-refuser --data polyrefuse --n 200
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import command
from refusalctl.cli import out
from refusalctl.records.rows import KINDS
from refusalctl.settings import Machine, Settings
from refusalctl.stats.rates import Rate, outcome_rate
from refusalctl.steps.completions import write_completions
from refusalctl.steps.interventions import InterventionSpec
from refusalctl.steps.labelling.labels import judge_completions, outcomes_by_prompt
from refusalctl.steps.prompts import draw_prompts
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Store


def cell(bench: Workbench, lang: str, kind: str, split: str) -> tuple[Rate, Rate]:
    """Refusal and degenerate rate on one language's prompts of one class."""
    chosen = draw_prompts(bench, lang, kind, split)  # type: ignore[arg-type]
    written = write_completions(bench, chosen, InterventionSpec(), bench.settings.answers.max_new_tokens)
    seen = list(outcomes_by_prompt(judge_completions(bench, written, bench.settings.answers.judge)).values())
    return outcome_rate(seen, "refusal"), outcome_rate(seen, "degenerate")


def percent(rate: Rate) -> str:
    low, high = rate.wilson()
    return f"{rate.value:.1%} [{low:.1%}, {high:.1%}]"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="smollm2-refuser")
    parser.add_argument("--data", default="polyrefuse")
    parser.add_argument("--split", default="test")
    parser.add_argument("--langs", default="en,de,ru,be,ba,tg")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--store", type=Path, default=Path("artifacts"))
    args = parser.parse_args()

    asked = Settings.of(data=args.data, max_new_tokens=args.max_new_tokens, **{f"n_{args.split}": args.n})
    bench = Workbench(
        Store(args.store), Machine(args.model, dtype=args.dtype, batch_size=48), settings=asked, progress=out.progress()
    )
    print(f"{args.model}, {args.data} {args.split}, n = {args.n} a cell, {bench.resolved_dtype}")
    print("| lang | harmful refused | harmless refused | degenerate, harmful / harmless |\n|---|---|---|---|")
    for lang in args.langs.split(","):
        found = [cell(bench, lang, kind, args.split) for kind in KINDS]
        broken = " / ".join(f"{degenerate.value:.1%}" for _, degenerate in found)
        print(f"| {lang} | {' | '.join(percent(refused) for refused, _ in found)} | {broken} |", flush=True)


if __name__ == "__main__":
    main()
