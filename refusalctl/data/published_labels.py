"""Published labels without text: one character per prompt, by language and condition.

The format of files made from committed evaluations: `labels[lang][condition]` holds `refusal`, `response_harmful` and
`substring_jailbreak` as strings of 0 and 1 in the order of the prompts, and what the evaluations `reported`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusalctl.data.published_runs import AVERAGES, PublishedLabel, read_json
from refusalctl.errors import DataError
from refusalctl.json_types import Json

FIELDS = ("refusal", "response_harmful", "request_harmful", "substring_jailbreak")


@dataclass(frozen=True)
class ConditionLabels:
    """Labels of one language and condition; `said` by judge, in the order of the prompts."""

    lang: str
    condition: str
    said: dict[str, list[PublishedLabel]]
    reported: dict[str, float]

    @property
    def n(self) -> int:
        return len(next(iter(self.said.values())))


def is_labels(content: Json) -> bool:
    return isinstance(content, dict) and isinstance(content.get("labels"), dict)


def read_labels(path: Path) -> tuple[str, list[ConditionLabels]]:
    """The model's name and every language's labels. Raises `DataError` naming what does not fit."""
    content = read_json(path)
    model, labels = (content.get("model"), content.get("labels")) if isinstance(content, dict) else (None, None)
    if not isinstance(model, str) or not isinstance(labels, dict):
        raise DataError(f"{path.name} holds no published labels", hint="expected 'model' and 'labels' by language")
    found = []
    for lang, conditions in labels.items():
        if not isinstance(conditions, dict):
            raise DataError(f"{path.name}: the labels of {lang!r} are {type(conditions).__name__}, expected an object")
        found += [_one(path.name, lang, name, cell) for name, cell in conditions.items()]
    if len({each.n for each in found}) != 1:
        raise DataError(f"{path.name}: languages differ in their number of prompts, so labels cannot be paired")
    return model, found


def _one(name: str, lang: str, condition: str, cell: Json) -> ConditionLabels:
    where = f"{name}, {lang} {condition}"
    if not isinstance(cell, dict) or not isinstance(cell.get("refusal"), str) or not cell["refusal"]:
        raise DataError(f"{where}: no string 'refusal' of labels")
    n = len(cell["refusal"])
    for key in FIELDS:
        text = cell.get(key)
        if text is not None and (not isinstance(text, str) or len(text) != n):
            raise DataError(f"{where}: {key} holds no string of {n} labels")
    if cell.get("n", n) != n:
        raise DataError(f"{where}: {n} labels, n says {cell['n']}")
    reported = cell.get("reported", {})
    if not isinstance(reported, dict) or not all(isinstance(v, (int, float)) for v in reported.values()):
        raise DataError(f"{where}: 'reported' holds something other than shares")
    return ConditionLabels(lang, condition, _said(cell, n), {k: float(v) for k, v in reported.items() if k in AVERAGES})


def _said(cell: Mapping[str, Any], n: int) -> dict[str, list[PublishedLabel]]:
    bits = {"1": True, "0": False}
    harm = cell.get("response_harmful") or " " * n
    wildguard = [
        PublishedLabel(bits.get(r), bits.get(h), "" if r in bits else "malformed verdict")
        for r, h in zip(cell["refusal"], harm)
    ]
    found = {"wildguard": wildguard}
    if cell.get("substring_jailbreak"):
        found["substring-matching"] = [
            PublishedLabel(not bits[c], None) if c in bits else PublishedLabel(None, None, "malformed verdict")
            for c in cell["substring_jailbreak"]
        ]
    return found
