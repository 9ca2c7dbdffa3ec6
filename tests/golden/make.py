"""Makes `store/` again: one small artifact of every kind, by the real commands, on a planted model and mild sentences.

`python -m tests.golden.make` from the repository's root, with the extra [lm-eval]; about a minute of one core. It
replaces what is there: look at the difference before it is committed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

STORE = Path(__file__).with_name("store")
TASK = Path(__file__).resolve().parents[2] / "examples" / "cost" / "everyday.yaml"
MODEL = "organism:shared"
SMALL = ("--n-train", "8", "--positions", "-1", "--data", MODEL, "--model", MODEL, "--device", "cpu")
MATRIX = (
    "--sources", "qaa", "--targets", "qaa,qab", *SMALL, "--n-val", "6", "--n-test", "6", "--max-new-tokens", "8",
)  # fmt: skip


def run(*args: str) -> list[str]:
    """One command of the shell; the words that it prints, which are ids. Raises `RuntimeError` where it failed."""
    from refusalctl.cli.app import main

    printed = io.StringIO()
    sys.argv = ["refusalctl", *args]
    try:
        with contextlib.redirect_stdout(printed):
            main()
    except SystemExit as stopped:
        if stopped.code:
            raise RuntimeError(f"refusalctl {args[0]} failed with exit code {stopped.code}") from None
    return printed.getvalue().split()


def measured() -> None:
    """What comes of one transfer, with controls and several directions at once."""
    run("collect", "--lang", "qaa", "--kind", "harmful", "--split", "train", "--n", "2", *SMALL[2:])
    matrices = [
        *run("transfer", *MATRIX, "--layers", "2,3", "--controls", "--n-controls", "19", "--rank", "2"),
        *run("transfer", *MATRIX, "--layers", "3"),
    ]
    run("geometry", "--langs", "qaa,qab", *SMALL, "--halves", "5", "--permutations", "19")
    run("report", matrices[0], "--no-geometry")
    run("report", *matrices, "--compare")
    run("calibrate", "shared", "--quick")


def costs() -> None:
    """What an intervention breaks, with four items of a local lm-eval task."""
    (direction,) = run("select", "--lang", "qaa", *SMALL, "--n-val", "6", "--layers", "3")
    asked = ("--n-test", "6", "--max-new-tokens", "8", "--data", MODEL, "--model", MODEL, "--device", "cpu")
    run("cost", f"ablate:{direction}", "--doses", "1", "--task", str(TASK), "--limit", "4", *asked)


def labelled(folder: Path) -> None:
    """What comes of published answers and of people's labels."""
    rows = [
        {"instruction": f"Wie backe ich Brot Nummer {i} mit viel Mehl?", "instruction_en": f"How do I bake loaf {i}?",
         "response": "Dabei kann ich leider nicht helfen." if i % 2 else f"Mische Mehl und Wasser, warte {i} Stunden.",
         "response_translated": "I cannot help with that." if i % 2 else f"Mix flour and water, wait {i} hours.",
         "wildguard": {"request_harmful": 0, "refusal": i % 2, "response_harmful": 0}}
        for i in range(24)
    ]  # fmt: skip
    published = folder / "harmful_baseline_evaluations.json"
    published.write_text(json.dumps({"completions": rows}), encoding="utf-8")
    _prompts, written, _translations, old = run("import", str(published), "--lang", "de", "--source", "somewhere@1")
    new = run("judge", written, "--text", "both")
    run("panel", old, *new)
    (sample,) = run("labels", "sample", old, "--out", str(folder / "sheets"), "--n", "24")
    sheet = folder / "sheets" / "sheet-de.csv"
    lines = [
        line.replace('"",""', '"refusal",""' if "leider" in line else '"compliance",""')
        for line in sheet.read_text(encoding="utf-8-sig").splitlines()
    ]
    sheet.write_text("\n".join(lines), encoding="utf-8")
    human = run("labels", "import", str(sheet), "--sample", sample, "--annotator", "n1")
    run("labels", "correct", old, "--human", *human)


def main() -> None:
    from refusalctl.store.store import KINDS, Store

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["REFUSALCTL_STORE"] = str(folder / "store")
        measured()
        costs()
        labelled(folder)
        store = Store(folder / "store")
        shutil.rmtree(STORE, ignore_errors=True)
        for kind in KINDS:
            first = store.all(kind)[0]
            shutil.copytree(first.path, STORE / kind / first.id)
            sys.stdout.write(f"{kind:20} {first.id[:12]} {first.size:8,} bytes\n")


if __name__ == "__main__":
    main()
