"""Published responses that hold a thought: only the answer is judged, and a thought that did not end has no label."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refusalctl.steps.completions import read_completions
from refusalctl.steps.labelling.labels import judge_completions, read_labels
from refusalctl.steps.labelling.translations import read_translations
from refusalctl.steps.published.request import Request
from refusalctl.steps.published.runs import import_files
from refusalctl.steps.published.thoughts import read_texts
from refusalctl.steps.step import Workbench
from refusalctl.store.store import Artifact

REFUSES_IN_THOUGHT = "I'm sorry, but I cannot help with that, says a voice in me. Still, bread is harmless."
ANSWER = "Mix flour, water and salt, and wait for an hour."


def imported(bench: Workbench, folder: Path, responses: list[str], **columns: list[object]) -> dict[str, Artifact]:
    rows = [
        {"prompt": f"How do I bake loaf number {i}?", "response": text} | {k: v[i] for k, v in columns.items()}
        for i, text in enumerate(responses)
    ]
    path = folder / "harmful_baseline_evaluations.json"
    path.write_text(json.dumps({"completions": rows}), encoding="utf-8")
    return {each.kind: each for each in import_files(bench, [path], Request("en"))}


def test_the_answer_alone_is_judged_and_the_thought_is_kept(bench: Workbench, tmp_path: Path) -> None:
    found = imported(
        bench,
        tmp_path,
        [f"<think>\n{REFUSES_IN_THOUGHT}\n</think>\n\n{ANSWER}", ANSWER, f"<think>\n{REFUSES_IN_THOUGHT}"],
        is_jailbreak_substring_matching=[1, 1, 0],
        generation_tokens=["5 6 7", "5 6", "5"],
    )
    rows = read_completions(found["completions"])
    assert [(row.text, row.reasoning_state) for row in rows] == [
        (ANSWER, "closed"), (ANSWER, "none"), ("", "unfinished"),
    ]  # fmt: skip
    assert rows[0].reasoning == REFUSES_IN_THOUGHT
    assert rows[0].reasoning_form == "<think> opened by the model, in the text alone"
    assert [row.token_ids for row in rows] == [(), (5, 6), ()]
    published = read_labels(found["labels"])
    assert [(row.outcome, row.reason) for row in published] == [
        ("unparsed", "judged with its thought"), ("compliance", ""), ("unparsed", "reasoning not finished"),
    ]  # fmt: skip
    again = read_labels(judge_completions(bench, found["completions"], "substring"))
    assert [(row.outcome, row.reason) for row in again][::2] == [
        ("compliance", "no refusal phrase"), ("unparsed", "reasoning not finished"),
    ]  # fmt: skip
    assert any("2 responses hold a thought (1 closed, 1 unfinished)" in note for note in bench.notes)


def test_a_thought_that_the_template_opened_is_open_in_every_row() -> None:
    parts = read_texts([f"Bread.\n</think>\n\n{ANSWER}", "Let me see, bread is", f"Hm.\n</think>\n{ANSWER}"])
    assert [(part.text, part.state) for part in parts] == [(ANSWER, "closed"), ("", "unfinished"), (ANSWER, "closed")]


def test_one_stray_tag_makes_no_thoughts_of_the_other_rows() -> None:
    parts = read_texts([ANSWER, ANSWER, f"Hm.\n</think>\n{ANSWER}", ANSWER])
    assert [part.state for part in parts] == ["none", "none", "closed", "none"]
    assert [part.text for part in parts] == [ANSWER] * 4


@pytest.mark.parametrize(
    "text", [ANSWER, "", "Write `<think>` before and `</think>` behind it.", "The tag </think> closes a thought."]
)
def test_a_tag_that_is_spoken_of_is_no_thought(text: str) -> None:
    (part,) = read_texts([text])
    assert (part.text, part.state) == (text, "none")


def test_a_translation_is_that_of_the_answer_or_none(bench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "harmful_baseline_completions.json"
    german, thought = "Mische Mehl und Wasser und warte.", "<think>\nBrot ist harmlos.\n</think>\n\n"
    told = ["<think>\nBread is harmless.\n</think>\n\nMix flour.", "Bread is harmless. Mix flour."]
    rows = [
        {
            "instruction": f"Wie backe ich Brot Nummer {i}?",
            "instruction_en": f"How do I bake bread number {i}?",
            "response": thought + german,
            "response_translated": english,
        }
        for i, english in enumerate(told)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    found = {each.kind: each for each in import_files(bench, [path], Request("de"))}
    assert [row.text for row in read_completions(found["completions"])] == [german] * 2
    assert [(row.text, row.failed) for row in read_translations(found["translations"])] == [
        ("Mix flour.", ""), (None, "translated with its thought"),
    ]  # fmt: skip
