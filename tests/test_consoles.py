"""Whatever is printed on our consoles, nothing but text and rich's own signs come out."""

from __future__ import annotations

import io
import re

import pytest
from rich.table import Table
from rich.tree import Tree

from refusalctl.consoles import SafeConsole
from refusalctl.progress import Bars, Lines, Messages
from tests.test_terminal import HOSTILE

OWN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours, and the movements of a bar


def printed(console: SafeConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return OWN.sub("", console.file.getvalue()).replace("\n", "").replace("\r", "").replace("\t", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_hostile_comes_out_of_text_tables_trees_and_bars(name: str) -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=60)
    text = HOSTILE[name].replace("\x1b[31m", "\x1b]8;;")  # a colour could not be told from rich's own
    grid = Table(title=text)
    grid.add_column(text)
    grid.add_row(text)
    tree = Tree(text)
    tree.add(text)
    console.print(text, grid, tree)
    console.print(text, style="dim", soft_wrap=True)
    for shown in (Bars(console), Lines(console)):
        with shown.task(text, 2) as advance:
            advance()
    Messages(console).say(text)
    assert printed(console).isprintable()


def test_brackets_in_the_name_of_a_task_are_no_markup() -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=80)
    with Bars(console).task("load [/red]model", 1) as advance:
        advance()
    assert "load [/red]model" in printed(console)


def test_notes_hide_secrets() -> None:
    console = SafeConsole(file=io.StringIO(), width=80)
    Messages(console).say("cannot fetch https://me:hunter2hunter2@example.org/model")
    assert "hunter2" not in printed(console)
