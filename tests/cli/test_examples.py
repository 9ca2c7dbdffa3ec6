"""Every command ends its help with examples that exist, and has a schema for what `--json` prints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from refusalctl.cli.app import app
from refusalctl.cli.examples import SHOWN, attach, lines
from tests.test_readme import unknown

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats"


def leaves(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        inner = f"{path} {name}".strip()
        yield from leaves(command, inner) if hasattr(command, "commands") else [(inner, command)]


COMMANDS = dict(leaves(typer.main.get_command(app)))


def test_every_command_has_examples_and_none_is_of_a_command_that_is_gone() -> None:
    assert set(SHOWN) == set(COMMANDS)


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_help_ends_with_commands_that_exist(path: str) -> None:
    shown, epilog = SHOWN[path], COMMANDS[path].epilog
    assert shown.examples
    for example in lines(shown):
        assert example in epilog
        assert "[" not in example  # rich would take it for markup
        assert not unknown(shlex.split(example)[1:])
        assert example.startswith(f"refusalctl {path}")


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_every_command_prints_json_that_has_a_schema(path: str) -> None:
    assert any("--json" in each.opts for each in COMMANDS[path].params)
    assert SHOWN[path].schemas
    assert not [name for name in SHOWN[path].schemas if not (FORMATS / f"{name}.schema.json").is_file()]


def test_a_command_without_examples_is_left_as_it_is() -> None:
    other = typer.Typer()
    other.command("nothing")(lambda: None)
    attach(other)
    assert other.registered_commands[0].epilog is None
