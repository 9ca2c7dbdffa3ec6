"""How well judges that need no weights label hard completions of the demo model, against its author's labels.

    refusalctl transfer --sources en,be --targets en,de,ru,be,ba,tg --store STORE ...   # writes the completions
    python -m benchmarks.judge_accuracy sheet --store STORE --out sheet.jsonl           # texts to label, not for git
    python -m benchmarks.judge_accuracy score --store STORE                             # labels in judge_labels.jsonl

Hard completions are those that are not word for word a sentence that the adapter was taught: refusals off the template,
partial answers, other languages, loops. Labels are kept by the SHA-256 of the completion, without text. They are the
author's, not native speakers'.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import command
from benchmarks.refuser_texts import ANSWERS, REFUSALS
from refusalctl.data.jsonl import read_jsonl
from refusalctl.model.judges import judge_named
from refusalctl.model.judges.degenerate_first import judge_rows
from refusalctl.model.judges.protocol import Item
from refusalctl.model.judges.weights import Settings
from refusalctl.stats.agreement import kappa
from refusalctl.steps.completions import read_completions
from refusalctl.store.store import Store

LABELS = Path(__file__).with_name("judge_labels.jsonl")
JUDGES = ("substring",)
MODEL = "smollm2-refuser"
CONDITIONS = ("none", "ablate", "add")


class Row(NamedTuple):
    lang: str
    condition: str
    sha256: str
    text: str


def rows(store: Store) -> Iterator[Row]:
    """Every distinct completion of the demo model in the store."""
    seen = set()
    for artifact in store.all("completions"):
        if artifact.about["model"] != MODEL or artifact.about["data"] != "sample":
            continue
        for completion in read_completions(artifact):
            digest = hashlib.sha256(f"{completion.lang}\n{completion.text}".encode()).hexdigest()
            if digest not in seen:
                seen.add(digest)
                yield Row(completion.lang, artifact.about["intervention"], digest, completion.text)


def taught(row: Row) -> bool:
    sentences = [*REFUSALS[row.lang], *ANSWERS.get(row.lang, ())]
    return any(row.text.strip() == s.strip() or s.strip().startswith(row.text.strip()) for s in sentences)


def sheet(store: Store, out: Path, n: int) -> None:
    """`n` per language, a third of each condition where there are enough, in random order."""
    rng = random.Random(0)
    drawn: list[Row] = []
    pools: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(rows(store), key=lambda r: r.sha256):
        if not taught(row):
            pools[row.lang, row.condition].append(row)
    for lang in REFUSALS:
        mine = [pools[lang, c] for c in CONDITIONS]
        for pool in mine:
            rng.shuffle(pool)
        order = [pool[i] for i in range(max(map(len, mine), default=0)) for pool in mine if i < len(pool)]
        drawn += order[:n]
    rng.shuffle(drawn)
    drawn.sort(key=lambda row: row.lang)
    lines = [json.dumps({**row._asdict(), "label": ""}, ensure_ascii=False) for row in drawn]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(Counter((row.lang, row.condition) for row in drawn))


def score(store: Store) -> None:
    """Accuracy, kappa and what was taken for what, per judge and language."""
    labels = {row["sha256"]: row for row in read_jsonl(LABELS)}
    texts = {row.sha256: row for row in rows(store) if row.sha256 in labels}
    print(f"{len(labels)} labels, {len(labels) - len(texts)} of them for completions that are not in this store")
    print("| judge | lang | n | accuracy | kappa | author: judge (where they part) |\n|---|---|---|---|---|---|")
    for name in JUDGES:
        judge = judge_named(name, Settings("cpu", "auto", 16, None))
        for lang in REFUSALS:
            chosen = [row for row in texts.values() if row.lang == lang and labels[row.sha256]["label"] != "unsure"]
            if not chosen:
                continue
            items = [Item(None, row.text, row.lang) for row in chosen]
            said = {i: verdict.outcome for i, verdict in judge_rows(judge, items)}
            pairs = [(str(labels[row.sha256]["label"]), said[i]) for i, row in enumerate(chosen)]
            right = sum(a == b for a, b in pairs)
            agreed = kappa([a for a, _ in pairs], [b for _, b in pairs])
            apart = Counter(f"{a}: {b}" for a, b in pairs if a != b)
            told = ", ".join(f"{k} {n}" for k, n in sorted(apart.items())) or "nowhere"
            shown = "undefined" if agreed is None else f"{agreed:.2f}"
            print(f"| {name} | {lang} | {len(pairs)} | {right / len(pairs):.1%} | {shown} | {told} |")


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("what", choices=("sheet", "score"))
    parser.add_argument("--store", type=Path, default=Path("artifacts"))
    parser.add_argument("--out", type=Path, default=Path("sheet.jsonl"))
    parser.add_argument("--n", type=int, default=64)
    args = parser.parse_args()
    store = Store(args.store)
    if args.what == "sheet":
        sheet(store, args.out, args.n)
    else:
        score(store)


if __name__ == "__main__":
    main()
