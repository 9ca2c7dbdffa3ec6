"""What only a machine with a CUDA device can check, in about ten minutes: one table, and exit code 1 where a target is
missed.

`python -m benchmarks.gpu_check [--model qwen2.5-7b --rounds 3 --out gpu.json]`, or `make gpu-check`: the tests that are
marked `gpu`; recorded passes and answers of smollm2-refuser on the first two devices and with `--device shard`, against
a processor's; `passes_speed` and `selection_speed` at short settings, by default with random weights of Qwen2.5-7B's
shape where 40 GiB are there, else of the 0.5B shape, for which no target was set. Without a device it says so and
exits with 1: nothing was checked then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import torch

from benchmarks import command
from benchmarks.shapes import opened
from refusalctl.data import sets
from refusalctl.model.chat_model import ChatModel
from refusalctl.model.forward import last_logprobs
from refusalctl.model.generate import complete
from refusalctl.model.hooks import Checks, Intervention
from refusalctl.model.load import versions
from refusalctl.model.savings.shared_beginning import furthest
from refusalctl.model.savings.sweeps import Sweeps

ROOT = Path(__file__).resolve().parents[1]
LARGE, ENOUGH = "qwen2.5-7b", 40 * 2**30  # whose targets these are, and bytes of a device that holds it with its work
SMALL, REFUSER = "qwen2.5-0.5b", "smollm2-refuser"
# how many times as fast as what stands behind the stroke
PASSES = {"collect / bare": 0.85, "ablated / plain": 0.95}
SEARCHES = {"full": 5.0, "prune": 8.0, "screen": 25.0}
LONGEST = 240.0  # seconds of one part
NEW_TOKENS = 24
SAME_ANSWERS = 0.9  # another device rounds differently: choices between equals flip
SAME_NEXT = 1e-4  # nats, float32 on two kinds of devices


class Row(NamedTuple):
    """One line: what was checked, what was found, what was to be reached, and whether it was. None: not measured, or no
    target."""

    what: str
    figure: str
    target: str
    kept: bool | None


# --- results of the parts, read ------------------------------------------------------------------------------


def rows_of_tests(junit: Path) -> list[Row]:
    """Counts of a JUnit file of pytest's. A run in which nothing passed has checked nothing."""
    suites = list(ElementTree.parse(junit).getroot().iter("testsuite"))
    n, bad, left = (sum(int(s.get(key, 0)) for s in suites for key in keys) for keys in _COUNTED)
    passed = n - bad - left
    figure = f"{passed} passed, {bad} failed, {left} skipped"
    return [Row("tests marked gpu", figure, "all pass", bad == 0 and passed > 0)]


_COUNTED = (("tests",), ("failures", "errors"), ("skipped",))


def passes_rows(value: dict[str, Any], with_targets: bool) -> list[Row]:
    """Of a file of `passes_speed`."""
    model, found = value["setting"]["model"], []
    for part in ("collect", "ablate"):
        for pair, each in value.get(part, {}).get("speed", {}).items():
            found.append(_speed(f"{part}, {model}: {pair}", each, PASSES.get(pair) if with_targets else None))
    return found


def selection_rows(value: dict[str, Any], with_targets: bool) -> list[Row]:
    """Of a file of `selection_speed`."""
    about = f"select, {value['setting']['model']}, {value['candidates']} candidates"
    return [
        _speed(f"{about}: {how} / published way", each, SEARCHES[how] if with_targets else None)
        for how, each in value["faster_than_reference"].items()
        if how in SEARCHES
    ]


def _speed(what: str, each: dict[str, float], target: float | None) -> Row:
    figure = f"{each['median']:.2f} ({each['min']:.2f} to {each['max']:.2f})"
    if target is None:
        return Row(what, figure, "", None)
    return Row(what, figure, f">= {target:g}", each["median"] >= target)


# --- parts ---------------------------------------------------------------------------------------------------


def run_tests(folder: Path) -> list[Row]:
    junit = folder / "tests.xml"
    _call("-m", "pytest", "-m", "gpu", "tests/model", f"--junitxml={junit}", failing=True)
    return rows_of_tests(junit)


def run_passes(folder: Path, model: str, rounds: int) -> list[Row]:
    asked = ("--n", "512", "--batch", "64", "--answers", "64", "--new-tokens", "64", "--agree", "0.05", "--same", "0.5")
    value = _benchmark("passes_speed", folder, model, rounds, *asked)
    return passes_rows(value, model == LARGE)


def run_grid(folder: Path, model: str, rounds: int) -> list[Row]:
    """The whole grid alone: random weights choose nothing."""
    asked = ("--search", "full", "--rule", "wang", "--max-kl", "1e9", "--n", "18", "--batch", "64", "--agree", "0.1")
    return selection_rows(_benchmark("selection_speed", folder, model, rounds, *asked), model == LARGE)


def run_searches(folder: Path, rounds: int) -> list[Row]:
    """Shorter searches need weights that refuse; those at hand are small, so nothing was promised of them."""
    asked = ("--rule", "wang", "--max-kl", "1.0", "--positions", "-1,-2", "--agree", "0.1")
    return selection_rows(_benchmark("selection_speed", folder, REFUSER, rounds, *asked), False)


def _benchmark(name: str, folder: Path, model: str, rounds: int, *asked: str) -> dict[str, Any]:
    out = folder / f"{name}.json"
    where = ("--model", model, "--device", "cuda", "--dtype", "bfloat16", "--rounds", str(rounds), "--out", str(out))
    _call("-m", f"benchmarks.{name}", *where, *asked)
    value: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return value


def _call(*args: str, failing: bool = False) -> None:
    """Another Python process. Raises `RuntimeError` with its last line, unless it may be `failing`."""
    try:
        done = subprocess.run(
            [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"took longer than {LONGEST:g} s") from None
    if done.returncode and not failing:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise RuntimeError(said.splitlines()[-1])


def device_rows(name: str, model: ChatModel, plain: ChatModel, *, recorded: bool) -> list[Row]:
    """Next tokens and answers under ablations of a model, against those of the same one elsewhere; with `recorded`, its
    passes and steps have to be repeated from a recording."""
    texts = [p.text for kind in ("harmful", "harmless") for p in sets.usable(sets.SAMPLE_SET, "en", kind, "val")[:4]]
    rows = [model.chat.encode(text) for text in texts]
    generator = torch.Generator().manual_seed(0)
    asked = [Intervention("ablate", torch.randn(model.residual.d_model, generator=generator)) for _ in range(3)]
    sweeps, worst = Sweeps(model, {"harmful": rows}, [[5], [6]], len(rows)), 0.0
    for each in asked:
        expected = last_logprobs(plain, rows, each, len(rows))
        for ran in sweeps.run(each, {"harmful": "next"}, Checks()):
            worst = max(worst, furthest(expected[ran.indices], ran.logprobs.cpu()))
    (mine, seen), (theirs, _) = (_answers(m, rows, asked[0]) for m in (model, plain))
    same = sum(mine[i] == theirs[i] for i in theirs) / len(rows)
    near, alike = worst <= SAME_NEXT, same >= SAME_ANSWERS
    found = [
        Row(f"{name}: next tokens against a processor's", f"KL {worst:.1e}", f"<= {SAME_NEXT:g}", near),
        Row(f"{name}: answers against a processor's", f"{same:.0%} equal", f">= {SAME_ANSWERS:.0%}", alike),
    ]
    if recorded:
        both = f"passes {_yes(sweeps.repeats)}, steps {_yes(seen.repeated)}"
        found.append(Row(f"{name}: repeated from a recording", both, "both", sweeps.repeats and seen.repeated))
    return found


def _answers(model: ChatModel, rows: list[list[int]], asked: Intervention) -> tuple[dict[int, list[int]], Checks]:
    found: dict[int, list[int]] = {}
    seen = Checks()
    for indices, answers, checks in complete(model, rows, asked, max_new_tokens=NEW_TOKENS, batch_size=len(rows)):
        found |= {i: answer.ids for i, answer in zip(indices, answers)}
        seen.merge(checks)
    return found, seen


def run_devices() -> list[Row]:
    plain, found = opened(REFUSER, device="cpu", dtype="float32"), []
    for device in ("cuda:0", "cuda:1", "shard"):
        if device == "cuda:1" and torch.cuda.device_count() < 2:
            found.append(Row("cuda:1", "not there", "", None))
            continue
        model = opened(REFUSER, device=device, dtype="float32")
        found += attempted(device, lambda m=model, d=device: device_rows(d, m, plain, recorded=d != "shard"))  # type: ignore[misc]
    return found


# --- the table -----------------------------------------------------------------------------------------------


def attempted(what: str, work: Callable[[], list[Row]]) -> list[Row]:
    """A part that fails is a line of the table, and the others go on."""
    started = time.monotonic()
    try:
        return work()
    except Exception as error:  # whatever it is, it is what was found
        said = (str(error).splitlines() or [""])[0][:100]
        return [Row(what, f"{type(error).__name__}: {said}", "no failure", False)]
    finally:
        print(f"{what}: {time.monotonic() - started:.0f} s", file=sys.stderr)


def table(rows: Sequence[Row]) -> str:
    lines = [("what", "figure", "target", "kept"), *((r.what, r.figure, r.target, _yes(r.kept)) for r in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines)


def _yes(kept: bool | None) -> str:
    return {True: "yes", False: "NO", None: "-"}[kept]


def machine() -> dict[str, Any]:
    """Card, driver and versions."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        driver = "unknown"
    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cards": cards, "driver": driver, "cuda": torch.version.cuda, **versions()}


def main(args: Sequence[str] | None = None) -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--model", help=f"a shape; {LARGE} where it fits, else {SMALL}")
    parser.add_argument("--rounds", type=int, default=3)
    command.add_out(parser)
    given: argparse.Namespace = parser.parse_args(args)
    if not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__} sees none, so nothing was checked", file=sys.stderr)
        return 1
    model = given.model or (LARGE if torch.cuda.get_device_properties(0).total_memory >= ENOUGH else SMALL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            *attempted("tests marked gpu", lambda: run_tests(folder)),
            *attempted("passes_speed", lambda: run_passes(folder, model, given.rounds)),
            *attempted("selection_speed, whole grid", lambda: run_grid(folder, model, given.rounds)),
            *attempted("selection_speed, searches", lambda: run_searches(folder, given.rounds)),
            *attempted("devices", run_devices),
        ]
    told = machine()
    command.write_figures(given.out, {"machine": told, "rows": [row._asdict() for row in rows]})
    print(", ".join(f"{key} {value}" for key, value in told.items()))
    print(table(rows))
    return int(any(row.kept is False for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
