"""Examples run: the notebook from a prompt to a verdict, cell by cell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def cells(path: Path) -> list[str]:
    """The code cells of a notebook kept as text."""
    parts = re.split(r"^# %%(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [code for kind, code in zip(parts[::2], parts[1::2], strict=True) if "[markdown]" not in kind]


def test_the_notebook_goes_from_a_prompt_to_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSALCTL_STORE", str(tmp_path / "store"))
    names: dict[str, object] = {}
    found = cells(EXAMPLES / "from_prompt_to_verdict.py")
    assert len(found) > 8
    for i, code in enumerate(found):
        exec(compile(code, f"cell {i}", "exec"), names)  # the file's own asserts are the test
    before, after, direction = names["before"], names["after"], names["direction"]
    assert after.rate().value < before.rate().value  # type: ignore[attr-defined]
    assert names["ablated"].checks["max_relative_projection"] < 1e-4  # type: ignore[attr-defined]
    kinds, todo = set(), [direction]
    while todo:
        result = todo.pop()
        kinds.add(result.kind)  # type: ignore[attr-defined]
        todo += result.lineage.values()  # type: ignore[attr-defined]
    assert "prompts" in kinds
    assert names["matrix"].verdict("qaa", "qab") == "transfers"  # type: ignore[attr-defined]
