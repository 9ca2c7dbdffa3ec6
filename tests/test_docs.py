"""Documents say what the code does: generated pages are fresh, and names, paths and links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

from refusalctl.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "refusalctl"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"wildguard/utils.py"}  # in a judge's own repository


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_fresh(make: ModuleType) -> None:
    assert make.stale() == [], "run `python docs/make.py`"
    assert make.orphans() == [], "run `python docs/make.py`"


def test_every_command_is_in_the_reference(make: ModuleType) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    commands = dict(make.leaves(typer.main.get_command(app)))
    assert len(commands) > 20
    for name, command in commands.items():
        assert f"## `{name}`" in text
        assert command.help


def test_every_module_is_in_the_tree_with_a_purpose(make: ModuleType) -> None:
    text = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py")):
        assert make.purpose(path), f"{path.relative_to(ROOT)} does not say what it is for"
        if path.name == "__init__.py":
            assert f"### `{path.parent.relative_to(ROOT).as_posix()}/`" in text
        else:
            assert f"| `{path.name}` |" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_paths_and_names_in_documents_exist(page: Path) -> None:
    """`steps/prompts.py` is a file of the package, and `steps/prompts.py::draw_prompts` is in it."""
    wrong = []
    for path, name in re.findall(r"`((?:\w+/)*\w+\.py)(?:::(\w+(?:\.\w+)?))?`", page.read_text(encoding="utf-8")):
        file = next((f for base in (ROOT, PACKAGE, ROOT / "tests") if (f := base / path).is_file()), None)
        if file is None and "/" in path and path not in ELSEWHERE:
            wrong.append(path)
        if name and (file is None or name not in defined(file)):
            wrong.append(f"{path}::{name}")
    assert not wrong


def defined(file: Path) -> set[str]:
    """Names of a module's functions, classes, methods and constants."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {t.id for t in targets if isinstance(t, ast.Name)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [t for t in targets if "://" not in t and not (page.parent / t).exists()]
