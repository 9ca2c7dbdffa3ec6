"""Promises about the tree itself: imports point one way, one place prints, tests mirror the package, and so on."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from tests.conftest import UNCHECKED, shaped

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "refusalctl"
# which import each other at most
PLAIN = {
    "control_marks", "errors", "file_errors", "json_types", "disk", "locks", "processes", "stopping", "version",
    "setting_words", "untrusted", "terminal", "redaction", "consoles",
}  # fmt: skip
BOTTOM = {"records", "organisms", "language_codes"} | PLAIN  # plain descriptions and rows, which everybody may know
LIBRARY = {
    "study",
    "study_cost",
    "study_arms",
    "study_goals",
    "study_labels",
    "results",
    "interventions",
    "resolve",
}  # what `import refusalctl` offers
ROOMS = {"settings", "setting_values", "progress", "executors", "steps", "model", "stats", "store", "data", "interop"}
MAY_IMPORT = {
    "cli": {"cli", "report"} | LIBRARY | ROOMS | BOTTOM,
    **{each: {"report"} | LIBRARY | ROOMS | BOTTOM for each in LIBRARY},  # resolve below is stricter
    "report": {"report", "settings", "steps", "stats", "store", "data"} | BOTTOM,
    "executors": {"executors", "settings", "progress", "steps", "store"} | BOTTOM,
    "steps": ROOMS - {"executors"} | BOTTOM,
    "settings": {"stats", "setting_values"} | BOTTOM,
    "setting_values": BOTTOM,
    "resolve": {"settings"} | PLAIN,
    "progress": PLAIN,
    "model": {"model"} | BOTTOM,
    "stats": {"stats"} | BOTTOM,
    "store": {"store"} | BOTTOM,
    "data": {"data"} | BOTTOM,
    "interop": {"interop"} | BOTTOM,
    "organisms": {"organisms", "records"} | PLAIN,
    "records": {"records"} | PLAIN,
    "language_codes": {"errors"},
    **{each: set() for each in PLAIN},
    "file_errors": {"errors"},
    "disk": {"errors", "file_errors", "locks"},
    "locks": {"processes", "untrusted"},
    "untrusted": {"json_types"},
    "redaction": {"errors", "json_types"},
    "consoles": {"terminal"},
}


# tests of behaviour that no single module has
BEHAVIOUR = {
    "model/judges/test_endpoint_verdicts.py",
    "model/judges/test_hostile_outputs.py",
    "model/judges/test_local_judges.py",
    "model/test_architectures.py",
    "model/test_chat_forms.py",
    "model/test_quantised.py",
    "report/test_in_browser.py",
    "organisms/test_organisms.py",
    "stats/test_verdict_claims.py",
    "stats/test_verdict_inputs.py",
    "steps/test_pipeline.py",
    "store/test_golden.py",
    "store/test_kills.py",
    "test_architecture.py",
    "test_examples.py",
    "test_benchmarks.py",
    "test_docs.py",
    "test_guards.py",
    "test_readme.py",
    "test_torture.py",
}


@cache
def modules() -> dict[Path, ast.Module]:
    """Every module of the package, parsed, by its path inside the package."""
    return {p.relative_to(PACKAGE): ast.parse(p.read_text(encoding="utf-8")) for p in sorted(PACKAGE.rglob("*.py"))}


def imported(tree: ast.Module) -> set[str]:
    """Names of refusalctl's sub-packages that a module imports, wherever in the file."""
    names = set()
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.ImportFrom):
            assert node.module, "relative imports hide what a module needs"
            assert not node.level, "relative imports hide what a module needs"
            targets = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            targets = [a.name for a in node.names]
        for target in targets:
            parts = target.split(".")
            if parts[0] == "refusalctl" and len(parts) > 1 and parts[1] in MAY_IMPORT:
                names.add(parts[1])
    return names


def prints(tree: ast.Module) -> bool:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)


def test_imports_point_one_way() -> None:
    wrong = {}
    rooms = {path.parts[0].removesuffix(".py") for path in modules()}
    assert rooms == set(MAY_IMPORT) | {"__init__", "__main__"}
    for path, tree in modules().items():
        room = path.parts[0].removesuffix(".py")
        if room in MAY_IMPORT and (beyond := imported(tree) - MAY_IMPORT[room]):
            wrong[str(path)] = beyond
    assert not wrong


def test_only_cli_out_prints() -> None:
    assert {str(path) for path, tree in modules().items() if prints(tree)} <= {"cli/out.py"}


def test_tests_mirror_the_package() -> None:
    tests = {p.relative_to(ROOT / "tests") for p in (ROOT / "tests").rglob("test_*.py")}
    assert {str(path) for path in tests} >= BEHAVIOUR  # a list that names what is gone hides what is lost
    strange = []
    for path in tests:
        subject = PACKAGE / path.parent / path.stem.removeprefix("test_")
        if str(path) not in BEHAVIOUR and not subject.with_suffix(".py").is_file() and not subject.is_dir():
            strange.append(str(path))
    assert not strange
    folders = {p.parent for p in (ROOT / "tests").rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]


def test_shapes_in_signatures_are_checked_while_tests_run() -> None:
    """Every module that imports jaxtyping is hooked, and says its types as objects: strings would not be looked at."""
    sources = {".".join(("refusalctl", *path.with_suffix("").parts)): tree for path, tree in modules().items()}
    origins = {
        name: {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        for name, tree in sources.items()
    }
    assert {name for name, imports in origins.items() if "jaxtyping" in imports} == set(shaped())
    checked = set(shaped()) - UNCHECKED
    assert len(checked) == len(shaped()) - len(UNCHECKED)  # a list that names what is gone hides what is lost
    assert not {name for name in checked if "__future__" in origins[name]}
    from refusalctl.model.projection import project

    with pytest.raises(TypeCheckError):
        project(torch.ones(2, 3), torch.ones(1, 4), torch.ones(1))  # a direction of another width
    loaders = {name: type(import_module(name).__loader__).__module__ for name in checked}
    assert {name for name, origin in loaders.items() if not origin.startswith("jaxtyping")} == set()


def test_files_stay_readable() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


def test_no_path_of_a_developer_machine_is_in_the_project() -> None:
    # built from parts so that this file does not find itself
    pattern = re.compile("/(" + "|".join(("work", "root", "home", "tmp")) + ")/[a-z]")
    suspects = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *(ROOT / "docs").rglob("*.*"), *PACKAGE.rglob("*.py")]
    suspects += [*PACKAGE.rglob("*.json"), *PACKAGE.rglob("*.md"), *(ROOT / "PolyRefuse").glob("*.*")]
    texts = [p for p in suspects if p.is_file() and p.suffix not in (".png", ".pyc")]
    assert not [str(p) for p in texts if pattern.search(p.read_text(encoding="utf-8"))]
