"""Examples that every command's help and docs/commands.md end with, and the schemas of what `--json` prints.

Both are checked by tests: each command has them, its examples are commands that exist, its schemas are in docs/formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple


class Shown(NamedTuple):
    """Examples of one command, without the program's name, and the schemas of its document on stdout."""

    examples: tuple[str, ...]
    schemas: tuple[str, ...] = ("printed-result",)


SHOWN: dict[str, Shown] = {
    "collect": Shown(("collect --lang ba", "collect --lang be --kind harmful --n 64 --model org/name")),
    "extract": Shown(("extract --lang ba --name ba-candidates",)),
    "select": Shown(("select --lang be", "select --lang be --rule wang --positions -1 --explain")),
    "ablate": Shown(
        (
            "ablate --lang ba --direction selection:lang=en",
            "ablate --lang en --intervention none",
            "ablate --lang de --direction be-candidates@-1,14 --intervention add --coeff 2",
        )
    ),
    "transfer": Shown(
        ("transfer --sources en,be --targets en,be,ba", "transfer --config experiment.toml --dry-run --probe")
    ),
    "judge": Shown(
        (
            "judge completions:lang=ba",
            "judge completions:lang=ba --judge wildguard --text back-translation",
            "judge --list",
        ),
        ("printed-result", "listed-judge"),
    ),
    "report": Shown(
        ("report --open", "report transfer:data=sample --format csv", "report first second --compare"),
        ("printed-report",),
    ),
    "demo": Shown(("demo", "demo --quick --out report")),
    "init": Shown(
        ("init", "init mine.toml --model org/name --data polyrefuse --sources en --targets en,ba"),
        ("printed-experiment",),
    ),
    "run": Shown(("run experiment.toml --dry-run --probe", "run experiment.toml --name first --out report")),
    "arms": Shown(
        ("arms --sources en --targets en,de --arm own --arm none --arm kind='Be kind and honest.'",), ("printed-arms",)
    ),
    "gate": Shown(
        (
            "gate first --expect 'en>de=transfers' --expect 'en>*!=reverses'",
            "gate first --config experiment.toml --junit gate.xml",
        ),
        ("printed-gate",),
    ),
    "geometry": Shown(("geometry --langs en,be,ba", "geometry --langs en,be,ba --reference be")),
    "cost": Shown(("cost ablate:selection:lang=en", "cost ablate:selection:lang=en --task arc_easy --limit 200")),
    "translate": Shown(("translate completions:lang=ba --translator nllb",)),
    "panel": Shown(("panel labels:lang=ba",)),
    "import": Shown(
        (
            "import runs/org/name --lang de",
            "import labels.csv --lang de --condition baseline",
            "import vector.gguf --lang de --pos -1",
        )
    ),
    "calibrate": Shown(
        ("calibrate --quick", "calibrate shared mirror --cells"), ("printed-calibration", "planned-trial")
    ),
    "doctor": Shown(("doctor", "doctor --model org/name --precision"), ("printed-doctor",)),
    "labels sample": Shown(("labels sample labels:lang=ba --out sheets --n 120",)),
    "labels import": Shown(("labels import sheets/sheet-ba.csv --sample sample: --annotator A1",)),
    "labels correct": Shown(("labels correct labels:judge=substring --human labels:judge=human",)),
    "data fetch": Shown(
        ("data fetch", "data fetch xstest", "data fetch multijail --from downloads"), ("fetched-prompts",)
    ),
    "data ls": Shown(("data ls",), ("listed-prompts",)),
    "data audit": Shown(("data audit --data polyrefuse --lang ba,be",), ("audit",)),
    "data add": Shown(("data add prompts.csv --lang kk --name mine --kind harmful --split test",), ("added-prompts",)),
    "data translate": Shown(("data translate --to kk --translator google --data sample",), ("translated-prompts",)),
    "artifacts ls": Shown(("artifacts ls", "artifacts ls transfer --json"), ("listed-artifact",)),
    "artifacts show": Shown(("artifacts show demo", "artifacts show selection:lang=be"), ("shown-artifact",)),
    "artifacts path": Shown(("artifacts path demo",), ("printed-path",)),
    "artifacts log": Shown(("artifacts log", "artifacts log --failed"), ("listed-run", "logged-run")),
    "artifacts verify": Shown(("artifacts verify", "artifacts verify transfer --lineage"), ("verified",)),
    "artifacts gc": Shown(("artifacts gc", "artifacts gc --yes"), ("collected",)),
    "artifacts rm": Shown(("artifacts rm first --dependants", "artifacts rm first --yes"), ("printed-removal",)),
    "artifacts name": Shown(("artifacts name best selection:lang=be",), ("printed-name",)),
    "artifacts repair": Shown(("artifacts repair", "artifacts repair --yes"), ("printed-repairs",)),
    "artifacts push": Shown(("artifacts push s3://bucket/store demo --dry-run",), ("printed-sharing",)),
    "artifacts pull": Shown(("artifacts pull ../their/artifacts --all",), ("printed-sharing",)),
    "artifacts export": Shown(
        (
            "artifacts export demo.tar.gz demo",
            "artifacts export be.safetensors selection:lang=be --format safetensors --model org/name",
            "artifacts export answers labels:lang=be --format dataset",
        ),
        ("printed-sharing", "printed-export"),
    ),
    "artifacts log-to": Shown(("artifacts log-to mlflow transfer: --to tracking",), ("logged-figures",)),
    "artifacts import": Shown(("artifacts import demo.tar.gz",), ("printed-sharing",)),
}


def attach(app: Any, path: str = "") -> None:
    """Let every command of a Typer app end its help with its examples."""
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        if (shown := SHOWN.get(f"{path} {name}".strip())) is not None:
            command.epilog = "\n\n".join(["Examples:", *lines(shown)])
    for group in app.registered_groups:
        attach(group.typer_instance, group.name)


def lines(shown: Shown) -> Iterator[str]:
    """The examples as one would type them."""
    return (f"refusalctl {example}" for example in shown.examples)
