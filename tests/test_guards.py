"""The list of guards keeps up with the code: each can still be taken out, and its test is still there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.break_guards import Guard, hazards, table

ROOT = Path(__file__).resolve().parents[1]
GUARDS = [guard for hazard in hazards() for guard in hazard.guards]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.says)
def test_a_guard_can_be_taken_out_and_its_test_is_there(guard: Guard) -> None:
    text = (ROOT / guard.file).read_text(encoding="utf-8")
    broken = guard.broken(text)  # raises unless what it replaces is there once
    assert broken != text
    if guard.file.endswith(".py"):
        ast.parse(broken)
    file, _, name = guard.test.partition("::")
    tests = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    assert name in {node.name for node in tests if isinstance(node, ast.FunctionDef)}


def test_a_text_that_is_there_twice_is_not_replaced() -> None:
    with pytest.raises(ValueError, match="is there 2 times, expected once"):
        GUARDS[0].broken(2 * GUARDS[0].old)


def test_the_table_in_the_docs_is_that_of_the_list() -> None:
    assert len(hazards()) == 35
    assert "\n".join(table()) in (ROOT / "docs/guards.md").read_text(encoding="utf-8")
