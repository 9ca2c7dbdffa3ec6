"""Small published trees with mild texts, a manifest that fits them, and the fixtures that offer them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusalctl.data import polyrefuse, sets

ROWS = 12
THINGS = (
    "bread",
    "a garden",
    "a river",
    "the moon",
    "a train",
    "an old clock",
    "soup",
    "a bicycle",
    "the sea",
    "chess",
)
DINGE = ("Brot", "einen Garten", "einen Fluss", "den Mond", "einen Zug", "eine alte Uhr", "Suppe", "ein Fahrrad",
         "das Meer", "Schach")  # fmt: skip


def english(kind: str, split: str, i: int) -> str:
    """A request whose length grows with a scrambled `i`, so that lengths tell rows apart."""
    more = " and then about the weather" * ((7 * i) % ROWS)
    return f"Please write a {kind} {split} letter number {i} about {THINGS[i % 10]}{more}."


def german(kind: str, split: str, i: int) -> str:
    more = " und danach über das Wetter" * ((7 * i) % ROWS)
    return f"Bitte schreibe den Brief Nummer {i} ({kind}, {split}) über {DINGE[i % 10]}{more}."


class Tree:
    """Published files in memory. Tests change `files`, then `write` them below a folder."""

    def __init__(self) -> None:
        self.files: dict[str, list[dict[str, Any]]] = {}
        for kind in ("harmful", "harmless"):
            for split in ("train", "val", "test"):
                self.files[polyrefuse.file_of("en", kind, split)] = [  # type: ignore[arg-type]
                    {"instruction": english(kind, split, i), "category": None} for i in range(ROWS)
                ]
                self.add_german(kind, split)

    def add_german(self, kind: str, split: str) -> None:
        rows = [{"instruction": german(kind, split, i), "category": None} for i in range(ROWS)]
        if split == "test":
            rows = [
                {"instruction": english(kind, split, i), "instruction_translated": r["instruction"]}
                for i, r in enumerate(rows)
            ]
        self.files[self.path("de", kind, split)] = rows

    @staticmethod
    def path(lang: str, kind: str, split: str) -> str:
        return polyrefuse.file_of(lang, kind, split)  # type: ignore[arg-type]

    def write(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Write below `folder/dataset`; return the manifest's entries."""
        entries = {}
        for path, rows in self.files.items():
            content = json.dumps(rows, ensure_ascii=False).encode()
            target = folder / "dataset" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            entries[path] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "rows": len(rows)}
        return entries


@pytest.fixture
def tree() -> Tree:
    return Tree()


Publish = Callable[[Tree], Path]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Write a tree, make it the manifest, and return its folder."""

    def run(tree: Tree, base_url: str = "http://127.0.0.1:1/dataset") -> Path:
        folder = tmp_path / "clone"
        entries = tree.write(folder)
        made = polyrefuse.Manifest("someone/prompts", "c0ffee" * 6, base_url, entries)
        monkeypatch.setattr(polyrefuse, "manifest", lambda: made)
        sets.prompts.cache_clear()
        return folder

    return run


@pytest.fixture
def fetched(publish: Publish) -> Callable[[Tree], None]:
    """Write a tree, fetch it and build the tables."""

    def run(tree: Tree) -> None:
        from refusalctl.progress import Silent
        from refusalctl.steps import prompt_sets

        prompt_sets.fetch(publish(tree), Silent())

    return run
