"""Options that several commands share, and the objects that commands build from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusalctl.cli import out
from refusalctl.errors import BadInput
from refusalctl.settings import Experiment, from_settings
from refusalctl.steps.step import BATCH_SIZE, Workbench
from refusalctl.store.store import Artifact, Store, check_name

if TYPE_CHECKING:
    from refusalctl.steps.cost import Cost

DEFAULT_MODEL = "smollm2-refuser"
DEFAULT_BATCH = BATCH_SIZE

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="REFUSALCTL_STORE", help="Artifact store.", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="REFUSALCTL_MODEL",
        help="smollm2-refuser, smollm2-refuser-en, smollm2, a Hugging Face id, or a local folder.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, mps, or shard (all devices, accelerate).")]
DTypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
AttentionOption = Annotated[str, typer.Option(help="Attention kernel: auto, sdpa, eager or flash_attention_2.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Prompts per batch; fewer where memory runs out.")]
SystemOption = Annotated[str | None, typer.Option(help="System prompt; the template's own by default.")]
TrustOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that a model brings along.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]
ProbeOption = Annotated[
    bool, typer.Option("--probe", help="With --dry-run: load the model, run a few prompts, and forecast the time.")
]


def _good_name(name: str | None) -> str | None:
    if name is not None:
        check_name(name)  # now, not after hours of work
    return name


NameOption = Annotated[str | None, typer.Option("--name", help="Give the result a name.", callback=_good_name)]
LangOption = Annotated[str, typer.Option("--lang", help="Language code, such as ba.")]
DataOption = Annotated[
    str, typer.Option("--data", envvar="REFUSALCTL_DATA", help="Prompt set: sample, polyrefuse, or your own.")
]
NTrainOption = Annotated[int | None, typer.Option(help="Train prompts per class; all, up to 128, by default.")]
NValOption = Annotated[int | None, typer.Option(help="Validation prompts per class; all, up to 32, by default.")]
NTestOption = Annotated[int | None, typer.Option(help="Test prompts per class; all by default.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the prompt draw.")]
PositionsOption = Annotated[
    str | None, typer.Option(help="End-of-instruction positions such as -1,-5; all by default.")
]
LayersOption = Annotated[str | None, typer.Option(help="Layers such as 8,12,16 or 4:24:2; all by default.")]
RuleOption = Annotated[str, typer.Option(help="Selection rule: arditi or wang.")]
MaxKlOption = Annotated[float | None, typer.Option(help="Largest KL divergence (nats) instead of the rule's.")]
MinInduceOption = Annotated[float | None, typer.Option(help="Smallest induce score instead of the rule's.")]
ShareOption = Annotated[float | None, typer.Option(help="Layer < floor(share * n_layers) instead of the rule's.")]
FilterOption = Annotated[
    bool, typer.Option("--filter-val/--no-filter-val", help="Keep validation prompts that the model tells apart.")
]
TokensOption = Annotated[int, typer.Option(min=1, help="Longest completion in tokens.")]
JudgeOption = Annotated[str, typer.Option(help="Judge: NAME or NAME=MODEL; see `refusalctl judge --list`.")]
CriterionOption = Annotated[
    str | None,
    typer.Option(help="Choose by refusal-score (opening probabilities, default) or cosmic (activations, token-free)."),
]
PruneOption = Annotated[
    bool, typer.Option("--prune", help="Score candidates only as far as the choice needs it; the choice is the same.")
]
ScreenOption = Annotated[
    bool, typer.Option("--screen", help="Score candidates that look best to first order; mostly the same choice.")
]
OpeningsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--refusal-openings",
        help="How refusals open, instead of deriving it: TEXT or ids:40,2121, for one language be=TEXT. Repeatable.",
    ),
]
OpeningJudgeOption = Annotated[
    str | None, typer.Option(help="What checks refusal openings: style (no download), or a judge; see `judge --list`.")
]
OpeningAurocOption = Annotated[
    float | None, typer.Option(help="Smallest AUROC of the refusal score against refusals found by the opening judge.")
]

MarginOption = Annotated[float | None, typer.Option(help="Margin of the verdict rule as a share; 0.1 by default.")]
InduceOption = Annotated[
    bool | None, typer.Option("--induce/--no-induce", help="Also add each direction on harmless prompts.")
]
DosesOption = Annotated[
    str | None, typer.Option(help="Coefficients of addition such as 1,2,4; the verdict is about the first.")
]
ControlsOption = Annotated[
    bool | None, typer.Option("--controls/--no-controls", help="Compare with control directions; costs forward passes.")
]
NControlsOption = Annotated[int | None, typer.Option(help="Control draws per family; what Holm needs by default.")]
RequireNullOption = Annotated[
    bool | None, typer.Option("--require-null/--no-require-null", help="Call nothing a transfer without controls.")
]
RankOption = Annotated[int | None, typer.Option(min=1, help="How many directions are ablated together.")]

DEFAULT_STORE = Path("artifacts")


def open_store(path: Path) -> Store:
    return Store(path)


def numbers(text: str | None, option: str) -> list[int] | None:
    """`-1,-5` or `4:24:2` (end excluded) to integers. Raises `typer.BadParameter` otherwise."""
    if text is None:
        return None
    try:
        if ":" in text:
            found = list(range(*(int(part) for part in text.split(":"))))
        else:
            found = [int(part) for part in text.split(",")]
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{option} takes numbers such as 8,12 or 4:24:2, found {text!r}") from error
    if not found:
        raise typer.BadParameter(f"{option} {text!r} names nothing")
    return found


def doses(text: str | None) -> list[float] | None:
    """`1,2.5` to numbers. Raises `typer.BadParameter` otherwise."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--doses takes numbers such as 1,2,4, found {text!r}") from error


def search(*, prune: bool, screen: bool) -> str | None:
    """The search that flags ask for, None for the default. Raises `typer.BadParameter` for both."""
    if prune and screen:
        raise typer.BadParameter("--prune and --screen are two ways to search: give one")
    return "prune" if prune else "screen" if screen else None


def languages(text: str) -> list[str]:
    """`en,be` to a list without repeats. Raises `BadInput` when it names nothing."""
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise BadInput("no language was named", hint="give codes such as en,be")
    return found


def experiment(**settings: Any) -> Experiment:
    """An experiment from option values; `positions` and `layers` as the user typed them."""
    for key in ("positions", "layers"):
        if isinstance(settings.get(key), str):
            settings[key] = numbers(settings[key], f"--{key}")
    return from_settings(settings)


def workbench(
    store: Path,
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "auto",
    batch_size: int = DEFAULT_BATCH,
    system: str | None = None,
    trust_remote_code: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> Workbench:
    return Workbench(
        open_store(store), model, device, dtype, attention, batch_size, system, trust_remote_code,
        out.Bars(quiet=quiet), dry_run,
    )  # fmt: skip


def check_probe(probe: bool, dry_run: bool) -> None:
    """Usage error for a probe without a dry run, before any work."""
    if probe and not dry_run:
        raise typer.BadParameter("--probe belongs to --dry-run")


def forecast(bench: Workbench, experiment: Experiment, *, probe: bool) -> Cost | None:
    """What a dry run's missing steps cost, or None for a real run."""
    if not bench.dry_run:
        return None
    from refusalctl.steps.cost import forecast_cost

    return forecast_cost(bench, experiment, probe)


def finish(
    bench: Workbench,
    artifacts: list[Artifact],
    *,
    name: str | None = None,
    json: bool = False,
    cost: Cost | None = None,
) -> None:
    """Name the result and print its id alone on stdout; notes, or the plan of a dry run, go to stderr."""
    if bench.dry_run:
        out.plan(bench.plan, cost, json=json)
        return
    for note in bench.notes:
        out.warn(note)
    if name is not None:
        bench.store.name(name, artifacts[-1])
    if json:
        rows = [{"kind": a.kind, "id": a.id, "path": str(a.path), "about": a.about} for a in artifacts]
        out.as_json(rows[0] if len(rows) == 1 else rows)
        return
    for artifact in artifacts:
        out.data(artifact.id)
