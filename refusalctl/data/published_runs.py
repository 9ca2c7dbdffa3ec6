"""Completions and evaluations as published by andyrdt/refusal_direction, mainlp/Multilingual-Refusal and their forks.

Read at andyrdt/refusal_direction (pipeline/run_pipeline.py, evaluate_jailbreak.py) and mainlp/Multilingual-Refusal
(model_base.py, multi_test.py, wildguard.py): a completions file is a list of rows with `instruction` or `prompt`,
`response`, and where there is one `instruction_en`, `response_translated` and `generation_tokens`; an evaluations file
is an object of averages with these rows and their labels under `completions`. Files are checked whole before anything
is made of them, and complaints carry row numbers, never text.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from refusalctl.data.prompt_texts import cluster_of, flag_repeats, normal
from refusalctl.data.response_language import response_language
from refusalctl.errors import DataError
from refusalctl.json_types import Json
from refusalctl.records.rows import Completion, Kind, Prompt, Split, Translation
from refusalctl.untrusted import LARGE, bounded, parse_json

FAILED = "Translation failed"  # what the published code writes where Google gave up, and then judges
CUT_AT = 4999  # characters of a response that the published code keeps for translating
INTERVENTIONS = {"baseline": "none", "ablation": "ablate", "actadd": "add"}
KIND_OF: dict[str, Kind] = {"harmful": "harmful", "jailbreakbench": "harmful", "harmless": "harmless"}
YES_NO = {1: True, 0: False, "yes": True, "no": False, "1": True, "0": False}
AVERAGES = {
    "wildguard_refusal": ("wildguard", "refusal", True),
    "wildguard_compliance": ("wildguard", "refusal", False),
    "wildguard_harmful": ("wildguard", "harmful", True),
    "substring_matching_success_rate": ("substring-matching", "refusal", False),
    "llamaguard2_success_rate": ("llamaguard2", "harmful", True),
    "harmbench_success_rate": ("harmbench", "harmful", True),
}


class PublishedLabel(NamedTuple):
    """What a published judge said of one row: refusal and harmfulness, None where it said nothing that can be read."""

    refusal: bool | None
    harmful: bool | None
    reason: str = ""


@dataclass(frozen=True)
class PublishedRun:
    """One file. `dataset` and `condition` are the parts of its name, `judged` the labels by judge, in row order.

    `reported`: averages that the file states; `zeros`: rows in which WildGuard's three answers are all "no".
    """

    dataset: str
    condition: str
    prompts: list[Prompt]
    completions: list[Completion]
    translations: list[Translation] | None
    judged: dict[str, list[PublishedLabel]] = field(default_factory=dict)
    reported: dict[str, float] = field(default_factory=dict)
    zeros: int = 0

    @property
    def intervention(self) -> str:
        """Ours where the published name has one meaning; mainlp's `harm_ablation` may also add the direction."""
        return INTERVENTIONS.get(self.condition, self.condition)


def read_json(path: Path) -> Json:
    """Raises `DataError` for a file that is missing or is not JSON."""
    try:
        content = parse_json(bounded(path, LARGE), nan=True)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({type(error).__name__})") from error
    except ValueError as error:
        raise DataError(f"{path.name} is not JSON, or was cut ({str(error)[:80]})", hint="fetch it again") from error
    return content


def name_parts(path: Path) -> tuple[str, str]:
    """`harmful_baseline_evaluations.json` to ("harmful", "baseline"); ("", "") for another name."""
    stem, _, what = path.stem.rpartition("_")
    dataset, _, condition = stem.partition("_")
    return (dataset, condition) if what in ("completions", "evaluations") and condition else ("", "")


def read_run(path: Path, lang: str, kind: Kind | None = None, condition: str | None = None) -> PublishedRun:
    """A completions or evaluations file. Raises `DataError` naming the first row that is something else."""
    content = read_json(path)
    dataset, named = name_parts(path)
    condition, kind = condition or named, kind or KIND_OF.get(dataset)
    if not condition:
        raise DataError(f"{path.name}: its name tells no condition", hint="give one: --condition baseline")
    if kind is None:
        raise DataError(f"{path.name}: its name tells no prompt class", hint="give --kind harmful or harmless")
    rows = content.get("completions") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows:
        raise DataError(
            f"{path.name} holds no completions", hint="expected a list of rows, or an object with 'completions'"
        )
    checked = [_checked(row, number, path.name) for number, row in enumerate(rows)]
    prompts = _prompts(checked, lang, kind)
    _check_language(prompts, lang, path.name)
    translations = (
        [translation(p, r.response, r.translated) for p, r in zip(prompts, checked)]
        if lang != "en" and any("response_translated" in r.raw for r in checked)
        else None
    )
    averages = content if isinstance(content, dict) else {}
    return PublishedRun(
        dataset,
        condition,
        prompts,
        [_completion(p, r) for p, r in zip(prompts, checked)],
        translations,
        _judged(checked, translations),
        _reported(averages, path.name),
        sum(_all_zero(row.raw) for row in checked),
    )


class _PublishedRow(NamedTuple):
    """One row whose texts were checked; judges' verdicts are still as published in `raw`."""

    prompt: str
    english: str | None
    response: str
    translated: str | None
    tokens: str | None
    raw: Mapping[str, Json]


def _checked(row: Json, number: int, name: str) -> _PublishedRow:
    where = f"{name} row {number}"
    if not isinstance(row, dict):
        raise DataError(f"{where} is {type(row).__name__}, expected an object")
    asked = row.get("instruction", row.get("prompt"))
    if not isinstance(asked, str) or not asked.strip():
        raise DataError(f"{where} has no prompt", hint="expected the key 'instruction' or 'prompt' with a text")
    response = row.get("response")
    if not isinstance(response, str):
        raise DataError(f"{where} has no response", hint="expected the key 'response' with a text")
    english, translated, tokens = (
        _text_or_none(row, key, where) for key in ("instruction_en", "response_translated", "generation_tokens")
    )
    return _PublishedRow(asked, english, response, translated, tokens, row)


def _text_or_none(row: Mapping[str, Json], key: str, where: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: {key} is {type(value).__name__}, expected a text")
    return value


def _prompts(rows: Sequence[_PublishedRow], lang: str, kind: Kind) -> list[Prompt]:
    """Prompts with the ids that `data fetch` gives the same English texts, so that old and new runs pair up."""
    split: Split = "test"
    found = []
    for number, row in enumerate(rows):
        text, text_en = row.prompt, row.prompt if lang == "en" else row.english
        cluster = cluster_of(text_en) if text_en else f"{lang}-{cluster_of(text)}"
        name = cluster if text_en else f"{lang}-{number:03d}"
        found.append(Prompt(f"{kind}-{split}-{name}", lang, kind, split, text, text_en, "imported", (), cluster))
    return flag_repeats(found)


def _check_language(prompts: Sequence[Prompt], lang: str, name: str) -> None:
    """Raise `DataError` when most prompts are plainly in another language: a published run was so, unnoticed."""
    same = sum(lang != "en" and p.text_en is not None and normal(p.text) == normal(p.text_en) for p in prompts)
    other = sum(response_language(p.text, lang).off is True for p in prompts)
    if max(same, other) * 2 > len(prompts):
        what = "are the English ones" if same >= other else "are in another language"
        raise DataError(
            f"{name}: {max(same, other)} of {len(prompts)} prompts {what}, not {lang!r}",
            hint="give the language of the prompts that the model was asked: --lang",
        )


def _completion(prompt: Prompt, row: _PublishedRow) -> Completion:
    ids = _token_ids(row.tokens)
    return Completion(prompt.id, prompt.lang, prompt.kind, row.response, len(ids) or None, None, ids, prompt.cluster)


def _token_ids(text: str | None) -> tuple[int, ...]:
    """Generated tokens; the published list is padded to its batch with the last token, which is dropped here."""
    parts = (text or "").split()
    ids = [int(part) for part in parts if part.isdecimal()]
    if len(ids) != len(parts):
        return ()
    while len(ids) > 1 and ids[-1] == ids[-2]:
        ids.pop()
    return tuple(ids)


def translation(prompt: Prompt | Completion, original: str, english: str | None) -> Translation:
    """A published translation; the words that stand for a failed one are a failure, not a text."""
    failed = "as published" if english is None or english.strip() in ("", FAILED) else ""
    key = prompt.id if isinstance(prompt, Prompt) else prompt.prompt_id
    digest = hashlib.sha256(original.encode()).hexdigest()
    return Translation(key, None if failed else english, failed, digest, prompt.cluster)


def _judged(
    checked: Sequence[_PublishedRow], translations: list[Translation] | None
) -> dict[str, list[PublishedLabel]]:
    rows = [row.raw for row in checked]
    failed = ["failed translation" if t.failed else "" for t in translations] if translations else [""] * len(rows)
    found: dict[str, list[PublishedLabel]] = {}
    if any("wildguard" in row for row in rows):
        found["wildguard"] = [_wildguard(row.get("wildguard"), f) for row, f in zip(rows, failed)]
    for judge, key in (
        ("substring-matching", "is_jailbreak_substring_matching"),
        ("llamaguard2", "is_jailbreak_llamaguard2"),
        ("harmbench", "is_jailbreak_harmbench"),
    ):
        if any(key in row for row in rows):
            found[judge] = [_jailbreak(judge, row.get(key), f) for row, f in zip(rows, failed)]
    return found


def yes_no(value: Json) -> bool | None:
    """1, 0, yes or no, in the published spellings; None for anything else, which nobody may take for 'no'."""
    if isinstance(value, float):
        value = int(value) if value in (0.0, 1.0) else None
    if isinstance(value, str):
        return YES_NO.get(value.strip().lower())
    return YES_NO.get(value) if isinstance(value, int) else None


def _wildguard(found: Json, failed: str) -> PublishedLabel:
    if failed:
        return PublishedLabel(None, None, failed)
    if not isinstance(found, dict):
        return PublishedLabel(None, None, "no verdict")
    refusal, harmful = yes_no(found.get("refusal")), yes_no(found.get("response_harmful"))
    return PublishedLabel(refusal, harmful, "" if refusal is not None else "malformed verdict")


def _jailbreak(judge: str, value: Json, failed: str) -> PublishedLabel:
    """Substring matching tells refusal; the other two judges tell harm."""
    if failed:
        return PublishedLabel(None, None, failed)
    found = yes_no(value)
    if found is None:
        return PublishedLabel(None, None, "no verdict" if value is None else "malformed verdict")
    return PublishedLabel(not found, None) if judge == "substring-matching" else PublishedLabel(None, found)


def _all_zero(row: Mapping[str, Json]) -> bool:
    found = row.get("wildguard")
    return isinstance(found, dict) and bool(found) and all(value == 0 for value in found.values())


def _reported(content: Mapping[str, Json], name: str) -> dict[str, float]:
    found = {}
    for key in (key for key in AVERAGES if key in content):
        value = content[key]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1 + 1e-9:
            raise DataError(f"{name}: {key} is not a share")
        found[key] = float(value)
    return found


def differing(reported: Mapping[str, float], judged: Mapping[str, Sequence[PublishedLabel]]) -> list[str]:
    """Averages that a file states and that its own rows do not give, in words."""
    notes = []
    for key, stated in reported.items():
        judge, attribute, wanted = AVERAGES[key]
        values = [getattr(said, attribute) for said in judged.get(judge, ())]
        known = [value is wanted for value in values if value is not None]
        if known and not math.isclose(sum(known) / len(known), stated, abs_tol=1e-9):
            notes.append(
                f"{key} is stated as {stated:.4f}, the {len(known)} labelled rows give {sum(known) / len(known):.4f}"
            )
    return notes
