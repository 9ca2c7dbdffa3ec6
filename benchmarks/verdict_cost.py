"""What a verdict costs: seconds, prompt passes and tokens of all that one transfer of a store rests on.

`python -m benchmarks.verdict_cost STORE [--transfer ID --out F]`: the newest transfer by default. Everything in its
lineage is counted once, with what `run.json` says of it: seconds of the clock of the machine that it ran on, prompt
passes where a step counts them (a backward pass as two), prompts and written tokens of answers. Divided by the cells
that have a verdict on removed refusals, beside the smallest removal that so many prompts show with 80 % power.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import command
from refusalctl.errors import BadInput
from refusalctl.report.provenance import Provenance
from refusalctl.steps.completions import COMPLETIONS_FILE
from refusalctl.steps.transfer import read_transfer
from refusalctl.store import formats
from refusalctl.store.artifact import written
from refusalctl.store.store import Artifact, Store

# an H100 in bfloat16 with a model of 7.6 billion parameters: an assumed rate of passes, and the measured one of answers
PARAMETERS, FLOPS, TOKENS_PER_SECOND = 7.6e9, 400e12, 4900.0


class Cost(NamedTuple):
    """Of one step, over all its artifacts."""

    artifacts: int = 0
    seconds: float = 0.0
    passes: int = 0
    answers: int = 0
    new_tokens: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(
            self.artifacts + other.artifacts,
            self.seconds + other.seconds,
            self.passes + other.passes,
            self.answers + other.answers,
            self.new_tokens + other.new_tokens,
        )


def cost_of(store: Store, artifact: Artifact) -> Cost:
    """Raises `BadInput` where its time is not known: a sum without it would be too small."""
    run = store.run_info(artifact)
    if run.get("seconds") is None:
        raise BadInput(f"{artifact.label} does not say how long it took", hint="compute it here")
    checks = run.get("checks") or {}
    passes, answers, tokens = int(checks.get("prompt_passes", 0)), 0, 0
    if artifact.kind == "activations":
        passes = int(checks["n"])
    if artifact.kind == "completions":
        rows = list(formats.read_rows(artifact.path / COMPLETIONS_FILE))
        answers, tokens = len(rows), sum(len(row["token_ids"]) for row in rows)
    return Cost(1, float(run["seconds"]), passes, answers, tokens)


def measured(store: Store, transfer: Artifact) -> dict[str, Any]:
    """Costs by step and per verdict, and what the verdicts can show."""
    steps: dict[str, Cost] = defaultdict(Cost)
    for artifact in Provenance(store, transfer).sorted():
        name = artifact.manifest["recipe"]["step"]
        steps[name] = steps[name].plus(cost_of(store, artifact))
    whole = Cost()
    for each in steps.values():
        whole = whole.plus(each)
    record = read_transfer(transfer)
    cells = [cell for cell in record.cells if cell.removal is not None]
    if not cells:
        raise BadInput("no cell of this transfer has a verdict on removed refusals")
    shown = [record.targets[cell.target].detectable for cell in cells]
    return {
        "steps": {name: each._asdict() for name, each in steps.items()},
        "whole": whole._asdict(),
        "verdicts": len(cells),
        "with_controls": sum(cell.removal is not None and cell.removal.p_null is not None for cell in cells),
        "prompts": sorted({cell.n for cell in cells}),
        "detectable": max(found) if len(found := [d for d in shown if d is not None]) == len(shown) else None,
        "per_verdict": {k: v / len(cells) for k, v in whole._asdict().items() if k != "artifacts"},
    }


def on_a_card(per_verdict: dict[str, float], prompt_tokens: float) -> float:
    """Seconds that the same passes and tokens would take by arithmetic, which is no measurement."""
    passed = (per_verdict["passes"] + per_verdict["answers"]) * prompt_tokens * 2 * PARAMETERS / FLOPS
    return passed + per_verdict["new_tokens"] / TOKENS_PER_SECOND


def _newest(store: Store, asked: str | None) -> Artifact:
    found = [store.open(kind, i) for kind, i in store.ids("transfer") if i.startswith(asked or "")]
    if not found:
        raise BadInput(f"the store holds no transfer{f' {asked}' if asked else ''}: the lineage of one is counted")
    return max(found, key=lambda each: written(each.path))


def main(args: Sequence[str] | None = None) -> None:
    parser = command.parser(__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--transfer", help="id or its beginning")
    parser.add_argument("--prompt-tokens", type=float, default=85.0, help="tokens of a prompt, for the arithmetic")
    command.add_out(parser)
    given: argparse.Namespace = parser.parse_args(args)
    store = Store(given.store)
    value = measured(store, _newest(store, given.transfer))
    each = value["per_verdict"]
    value["arithmetic_h100_7b_seconds"] = on_a_card(each, given.prompt_tokens)
    command.write_figures(given.out, value)
    print(f"{'step':20}{'artifacts':>10}{'seconds':>10}{'passes':>10}{'answers':>10}{'tokens':>10}")
    rows = sorted(value["steps"].items(), key=lambda row: -row[1]["seconds"])
    for name, cost in [*rows, ("all", value["whole"])]:
        numbers = (cost["artifacts"], round(cost["seconds"], 1), cost["passes"], cost["answers"], cost["new_tokens"])
        print(f"{name:20}" + "".join(f"{number:>10}" for number in numbers))
    shows = "no removal" if value["detectable"] is None else f"a removal of {value['detectable']:.0%}"
    print(f"{value['verdicts']} verdicts, {value['with_controls']} with controls; n {value['prompts']} shows {shows}")
    print(f"per verdict: {each['seconds']:.0f} s, {each['passes']:.0f} prompt passes, {each['new_tokens']:.0f} tokens")
    print(f"by arithmetic, 7B on an H100: {value['arithmetic_h100_7b_seconds']:.1f} s per verdict")


if __name__ == "__main__":
    main()
