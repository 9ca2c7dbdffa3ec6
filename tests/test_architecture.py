"""Promises about the tree itself: imports point one way, one place prints, files stay short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "refusalctl"
BOTTOM = {"records", "organisms"}  # plain descriptions and rows, which everybody may know
MAY_IMPORT = {
    "cli": {"cli", "report", "study", "settings", "steps", "model", "stats", "store", "data"} | BOTTOM,
    "report": {"report", "settings", "steps", "stats", "store", "data"} | BOTTOM,
    "study": {"report", "settings", "steps", "model", "stats", "store", "data"} | BOTTOM,
    "steps": {"steps", "settings", "progress", "model", "stats", "store", "data"} | BOTTOM,
    "settings": {"stats"} | BOTTOM,
    "model": {"model"} | BOTTOM,
    "stats": {"stats"} | BOTTOM,
    "store": {"store"} | BOTTOM,
    "data": {"data"} | BOTTOM,
    "organisms": {"organisms"},
    "records": {"records"},
}


def imported(path: Path) -> set[str]:
    """Names of refusalctl's sub-packages that a module imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            modules = [a.name for a in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "refusalctl" and len(parts) > 1 and parts[1] in MAY_IMPORT:
                names.add(parts[1])
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in MAY_IMPORT:
        assert imported(path) <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_cli_out_prints(path: Path) -> None:
    if path.relative_to(PACKAGE) == Path("cli/out.py"):
        return
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


def test_files_stay_readable() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


def test_no_path_of_a_developer_machine_is_in_the_project() -> None:
    import re

    # built from parts so that this file does not find itself
    pattern = re.compile("/(" + "|".join(("work", "root", "home", "tmp")) + ")/[a-z]")
    suspects = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *(ROOT / "docs").glob("*"), *PACKAGE.rglob("*.py")]
    suspects += [*PACKAGE.rglob("*.json"), *PACKAGE.rglob("*.md"), *(ROOT / "PolyRefuse").glob("*.*")]
    assert not [str(p) for p in suspects if pattern.search(p.read_text(encoding="utf-8"))]
