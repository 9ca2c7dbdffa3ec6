"""Documents say what the code does: generated pages are fresh, and names, paths and links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import typer

import refusalctl as rc
from refusalctl.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "refusalctl"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / name / "README.md" for name in ("examples", "benchmarks", "PolyRefuse", "artifacts", "docs/formats")]
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
    lost = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text_of(page)):
        if "://" in target:
            continue
        found = page.parent / target if target else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            lost.append(f"{target}#{anchor}")
    assert not lost


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def anchors(page: Path) -> set[str]:
    """What links can point to in a page, as GitHub and the site name it."""
    heads = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


def test_every_page_is_in_the_index_and_so_on_the_site_and_in_llms_txt() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {
        (index.parent / target).resolve()
        for target in re.findall(r"^\| \[[^\]]+\]\(([^)]+)\)", text_of(index), re.MULTILINE)
    }
    assert {page for page in PAGES if page != index} <= linked
    told = text_of(ROOT / "llms.txt")
    assert not [page for page in linked if f"]({page.relative_to(ROOT).as_posix()}): " not in told]


def test_every_public_name_is_in_the_api_with_what_it_does() -> None:
    text = text_of(ROOT / "docs" / "api.md")
    for name in set(rc.__all__) - {"__version__"}:
        assert f"### `rc.{name}`\n" in text
    methods = [name for name, value in vars(rc.Study).items() if not name.startswith("_") and inspect.isfunction(value)]
    assert len(methods) > 20
    for name in methods:
        assert re.search(rf"^#### `rc\.Study\.{name}`\n\n```text\n.+?\n```\n\n\S", text, re.DOTALL | re.MULTILINE), name


@pytest.mark.filterwarnings("ignore")  # of Sphinx's own house
def test_the_site_is_built_without_a_warning_and_asks_nothing_of_other_servers(tmp_path: Path) -> None:
    for name in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(name, reason="the extra `docs` is not installed")
    from sphinx.cmd.build import main

    site = tmp_path / "site"
    assert (
        main(["-q", "-W", "--keep-going", "-d", str(tmp_path / "d"), "-c", str(ROOT / "docs"), str(ROOT), str(site)])
        == 0
    )
    for page in PAGES:
        html = (site / page.relative_to(ROOT)).with_suffix(".html").read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?:https?:)?//", html)
        assert "<article" in html
        assert 'role="heading" aria-level="2"' in html
    assert "<math" in (site / "docs" / "formulas.html").read_text(encoding="utf-8")
    assert (site / "llms.txt").read_text(encoding="utf-8") == text_of(ROOT / "llms.txt")
