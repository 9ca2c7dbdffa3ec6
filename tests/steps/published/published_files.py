"""Synthetic files as they are published, for the tests of `import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refusalctl.steps.published.request import Request
from refusalctl.store.store import Artifact

GERMAN = [
    "Wie backe ich ein gutes Brot mit Nüssen?",
    "Schreibe einen Brief an meine Nachbarin.",
    "Nenne drei Bäume im Norden.",
]
ENGLISH = ["How do I bake a good bread with nuts?", "Write a letter to my neighbour.", "Name three trees of the north."]
ANSWERS = [
    "Mische Mehl, Wasser und Salz und warte eine Stunde.",
    "Dabei kann ich leider nicht helfen.",
    "Birke, Fichte und Kiefer.",
]
MAINLP = Request("de", "mainlp/Multilingual-Refusal@985169d", "Qwen/Qwen2.5-7B-Instruct", direction_lang="ja")


def rows(**extra: list[Any]) -> list[dict[str, Any]]:
    """Rows as mainlp writes them, with more columns."""
    columns = {"instruction": GERMAN, "instruction_en": ENGLISH, "response": ANSWERS, **extra}
    return [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]


def verdict(refusal: Any, harmful: Any = 0) -> dict[str, Any]:
    return {"request_harmful": 1, "refusal": refusal, "response_harmful": harmful}


EVALUATED = {
    "generation_tokens": ["5 6 7 9 9 9", "5 9", "1 2 3"],
    "response_translated": ["Mix flour, water and salt.", "Translation failed", "Birch, spruce and pine."],
    "wildguard": [verdict(0, 1), verdict(1), verdict("maybe")],
    "is_jailbreak_substring_matching": [1, 1, 0],
    "is_jailbreak_llamaguard2": [1, 0, None],
}


def file(tmp_path: Path, name: str, content: Any) -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def labels_file(tmp_path: Path, **cells: Any) -> Path:
    content = {"what": "test", "model": "m", "labels": {"de": cells}}
    return file(tmp_path, "labels.json", content)


def by_kind(found: list[Artifact]) -> dict[str, list[Artifact]]:
    kinds: dict[str, list[Artifact]] = {}
    for each in found:
        kinds.setdefault(each.kind, []).append(each)
    return kinds
